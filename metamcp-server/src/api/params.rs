//! Query parameters: known names only, each checked, repeated ones kept in order.

use std::{fmt::Display, str::FromStr};

use super::{extract::nearest, problem::Problem};

/// Most parameters of one request.
const PARAMS_MAX: usize = 64;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query string; a name that is not `known` is refused with the nearest one.
    pub(super) fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut params = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let mend = match nearest(&name, known.iter().copied()) {
                    Some(near) => format!("unknown parameter, did you mean `{near}`?"),
                    None if known.is_empty() => "unknown parameter, there are none here".to_owned(),
                    None => format!("unknown parameter, the known ones are {}", known.join(", ")),
                };
                return Err(Problem::parameter(&name, mend));
            }
            if params.len() == PARAMS_MAX {
                return Err(Problem::parameter(&name, format!("more than {PARAMS_MAX} parameters")));
            }
            params.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(params))
    }

    /// Every non-empty value of a parameter that may be repeated or be a comma-separated list.
    pub(super) fn list<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str());
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The one value of a parameter; twice is an error.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Problem::parameter(name, "must be given once")),
            (one, None) => Ok(one),
        }
    }

    /// The one value of a parameter, as what it stands for.
    pub(super) fn value<T>(&self, name: &'static str) -> Result<Option<T>, Problem>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text(name)?
            .map(|text| text.parse().map_err(|error: T::Err| Problem::parameter(name, error.to_string())))
            .transpose()
    }

    /// The size of a page: `default` unless asked for, never more than `max`.
    pub(super) fn limit(&self, default: u16, max: u16) -> Result<u16, Problem> {
        match self.value::<u16>("limit") {
            Ok(Some(limit)) if (1..=max).contains(&limit) => Ok(limit),
            Ok(None) => Ok(default.min(max)),
            Ok(Some(_)) | Err(_) => Err(Problem::parameter("limit", format!("must be 1 to {max}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_single_and_decoded() {
        let known = ["state", "limit", "label"];
        let params = Params::parse(Some("state=a,b&state=c&label=k%3Av%20w&limit=7"), &known).unwrap();
        assert_eq!(params.list("state").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(params.text("label").unwrap(), Some("k:v w"));
        assert_eq!(params.limit(50, 200).unwrap(), 7);
        assert!(params.text("state").is_err());
        let unknown = Params::parse(Some("limits=7"), &known).unwrap_err();
        assert!(unknown.document().detail.contains("did you mean `limit`"));
        for bad in ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=70000"] {
            let problem = Params::parse(Some(bad), &known).unwrap().limit(50, 200).unwrap_err();
            assert_eq!(problem.document().detail, "limit: must be 1 to 200", "{bad}");
        }
    }
}
