//! A tower service as hyper calls it, without a copy of it for each request.
//!
//! Copies share what is behind them, and to count them is work that all threads do at one place in memory. One copy serves a connection.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::future::Either;
use tower::{Service, ServiceExt as _, util::Oneshot};

/// The service of one connection.
pub(super) struct Calls<S>(Mutex<S>);

impl<S> Calls<S> {
    pub(super) const fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S, R> hyper::service::Service<R> for Calls<S>
where
    S: Service<R, Error = Infallible> + Clone,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Either<S::Future, Oneshot<S, R>>;

    fn call(&self, request: R) -> Self::Future {
        let mut service = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is not ready is waited for by a copy, which need not be asked for by others.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(_) => Either::Left(service.call(request)),
            Poll::Pending => Either::Right(service.clone().oneshot(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use hyper::service::Service as _;

    use super::*;

    /// Ready at the second look of each copy.
    #[derive(Clone, Default)]
    struct Second(u32);

    impl Service<u32> for Second {
        type Response = u32;
        type Error = Infallible;
        type Future = Ready<Result<u32, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.0 += 1;
            cx.waker().wake_by_ref();
            if self.0 > 1 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn call(&mut self, request: u32) -> Self::Future {
            std::future::ready(Ok(request + self.0))
        }
    }

    #[tokio::test]
    async fn a_service_is_called_when_it_is_ready() {
        let calls = Calls::new(Second::default());
        assert_eq!(calls.call(10).await.unwrap(), 12, "by a copy, which was looked at twice");
        assert_eq!(calls.call(20).await.unwrap(), 22);
    }
}
