//! `metamcp route`: which tools could serve a need, with scores and reasons, and which were rejected. Runs none.

use super::{
    args::RouteArgs,
    backend::Backend,
    exit::{Exit, Outcome},
    out, show,
};
use crate::api::doc::{NeedDocument, RouteDocument};

pub(super) async fn run(args: RouteArgs) -> Outcome {
    let need = NeedDocument { need: args.need.clone(), input: args.input.read()?, ..NeedDocument::default() };
    let backend = Backend::find(&args.backend).await?;
    let route = backend.client.route(&need).await;
    backend.close().await;
    let route = route?;
    if args.json {
        out::json(&route).map_err(anyhow::Error::from)?;
    } else {
        out::text(&text(&route)).map_err(anyhow::Error::from)?;
    }
    if route.candidates.is_empty() {
        eprintln!("nothing fits; say it in other words, or see `metamcp servers --tools` for what there is");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn text(route: &RouteDocument) -> String {
    let mut text = String::new();
    if !route.candidates.is_empty() {
        let row = |c: &crate::api::doc::CandidateDocument| {
            vec![format!("{:.2}", c.score), c.tool.to_string(), show::reasons(c)]
        };
        let rows: Vec<_> = route.candidates.iter().map(row).collect();
        text.push_str(&out::table(&["SCORE", "TOOL", "WHY"], &rows));
    }
    if !route.rejected.is_empty() {
        let rows: Vec<_> = route.rejected.iter().map(|r| vec![r.tool.to_string(), r.reason.clone()]).collect();
        text.push_str(&out::table(&["REJECTED", "WHY"], &rows));
    }
    text
}
