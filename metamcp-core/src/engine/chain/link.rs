//! Where the arguments of a step come from: the caller's input, an earlier step's result, or nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    STEP_REFERENCE,
    shape::{Property, fits, kind_of, likeness},
};
use crate::json::RawJson;

/// How much a hand-over is worth under the same name.
const SAME_NAME: f32 = 1.0;
/// How much a hand-over is worth that only the types speak for.
const BY_TYPE: f32 = 0.5;
/// How much one is worth that hands over a text of which no schema tells.
const BY_TEXT: f32 = 0.25;
/// Types of which one value is seldom another by chance.
const TELLING_KINDS: [&str; 3] = ["string", "array", "object"];

/// A step's tool, as far as hand-overs go.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shape {
    pub(super) takes: Vec<Property>,
    /// What its structured result has; none: it gives a text.
    pub(super) gives: Option<Vec<Property>>,
}

/// The arguments of one step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Linked {
    pub(super) input: BTreeMap<String, RawJson>,
    pub(super) missing: Vec<Property>,
    /// Why, argument by argument.
    pub(super) reasons: Vec<String>,
    /// What its hand-overs are worth: the best one, 0 when there is none.
    pub(super) handed: f32,
    /// Some argument is handed over under another name, or by its type alone.
    pub(super) guessed: bool,
}

/// The arguments of each step of a chain, from `given`, the caller's input, and from steps before it. Also tells what of the input is used.
pub(super) fn link(chain: &[&Shape], given: &BTreeMap<String, RawJson>) -> (Vec<Linked>, BTreeSet<String>) {
    let mut used = BTreeSet::new();
    let linked = (0..chain.len()).map(|at| one(chain, at, given, &mut used)).collect();
    (linked, used)
}

fn one(chain: &[&Shape], at: usize, given: &BTreeMap<String, RawJson>, used: &mut BTreeSet<String>) -> Linked {
    let mut linked = Linked::default();
    let before = &chain[..at];
    let mut open = Vec::new();
    let used_before = used.clone();
    for property in &chain[at].takes {
        let own = given.get(&property.name).filter(|value| fits(&[kind_of(value).to_owned()], &property.kinds));
        let named = if property.required { by_name(before, property) } else { None };
        match (own, named) {
            // What an earlier step took already is its own; this one is about what came of it.
            (Some(_), Some(hand)) if hand.worth >= SAME_NAME && used_before.contains(&property.name) => {
                linked.take(property, hand);
            }
            (Some(value), _) => {
                used.insert(property.name.clone());
                linked.reasons.push(format!("`{}` is in the input", property.name));
                linked.input.insert(property.name.clone(), value.clone());
            }
            (None, Some(hand)) => linked.take(property, hand),
            (None, None) if property.required => open.push(property),
            (None, None) => {}
        }
    }
    // With several open arguments nobody knows which one is meant.
    // What an earlier step takes too is the same thing to both, and no result of that step.
    let shared = |property: &Property| {
        before.iter().flat_map(|shape| &shape.takes).any(|other| likeness(&other.name, &property.name) >= SAME_NAME)
    };
    if let [property] = open.as_slice()
        && !shared(property)
        && let Some(hand) = by_kind(before, property)
    {
        linked.take(property, hand);
        open.clear();
    }
    linked.missing = open.into_iter().cloned().collect();
    linked
}

/// A value that an earlier step hands over.
struct Hand {
    step: usize,
    part: String,
    what: String,
    worth: f32,
}

impl Linked {
    fn take(&mut self, property: &Property, hand: Hand) {
        let Hand { step, part, what, worth } = hand;
        self.reasons.push(format!("`{}` is {what} of step {step}", property.name));
        let reference = serde_json::json!({ "$ref": format!("{STEP_REFERENCE}{step}#{part}") });
        self.input.insert(property.name.clone(), reference.into());
        self.handed = self.handed.max(worth);
        self.guessed |= worth < SAME_NAME;
    }
}

/// The part of the latest earlier result whose name means this property.
fn by_name(before: &[&Shape], property: &Property) -> Option<Hand> {
    let steps = before.iter().enumerate().rev();
    let hands = steps.filter_map(|(at, shape)| {
        let parts =
            shape.gives.as_ref()?.iter().filter(|given| !property.listed && fits(&given.kinds, &property.kinds));
        let worth = |given: &&Property| likeness(&given.name, &property.name);
        let best = parts.max_by(|a, b| worth(a).total_cmp(&worth(b)).then_with(|| b.name.cmp(&a.name)))?;
        let worth = worth(&best);
        (worth > 0.0).then(|| Hand { worth, ..structured(at, &best.name) })
    });
    hands.reduce(|later, earlier| if earlier.worth > later.worth { earlier } else { later })
}

/// The one part of the result before that can be meant by its type, or its text.
fn by_kind(before: &[&Shape], property: &Property) -> Option<Hand> {
    let at = before.len().checked_sub(1)?;
    if property.listed {
        return None;
    }
    let Some(gives) = &before[at].gives else {
        let text = fits(&["string".to_owned()], &property.kinds);
        let hand =
            Hand { step: at + 1, part: "/content/0/text".to_owned(), what: "the text".to_owned(), worth: BY_TEXT };
        return text.then_some(hand);
    };
    let telling = |kinds: &[String]| {
        let [kind] = kinds else { return false };
        TELLING_KINDS.iter().any(|telling| kind.starts_with(telling))
    };
    let mut fitting = gives.iter().filter(|given| {
        !given.listed && telling(&given.kinds) && telling(&property.kinds) && fits(&given.kinds, &property.kinds)
    });
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(Hand { worth: BY_TYPE, ..structured(at, &only.name) }),
        _ => None,
    }
}

fn structured(at: usize, name: &str) -> Hand {
    let part = format!("/structuredContent/{}", name.replace('~', "~0").replace('/', "~1"));
    Hand { step: at + 1, part, what: format!("`{name}`"), worth: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(text: &str) -> Property {
        let (name, kind) = text.split_once(':').unwrap();
        let (kind, required) = kind.strip_suffix('!').map_or((kind, false), |kind| (kind, true));
        let kinds = if kind.is_empty() { Vec::new() } else { vec![kind.to_owned()] };
        Property { name: name.to_owned(), kinds, required, listed: false }
    }

    fn shape(takes: &[&str], gives: Option<&[&str]>) -> Shape {
        let all = |texts: &[&str]| texts.iter().map(|text| property(text)).collect();
        Shape { takes: all(takes), gives: gives.map(all) }
    }

    fn given(text: &str) -> BTreeMap<String, RawJson> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn arguments_come_from_the_input_by_name_by_type_or_as_text() {
        let find = shape(&["name:string!", "limit:integer"], Some(&["user_id:integer", "email:string"]));
        let mail = shape(&["userId:integer!", "body:string!"], None);
        let log = shape(&["level:string!", "line:string!"], None);
        let (linked, used) = link(&[&find, &mail, &log], &given(r#"{"name":"Al","body":"hi","level":"info","odd":1}"#));
        assert!(linked.iter().all(|step| step.missing.is_empty()), "{linked:#?}");
        assert_eq!(linked[1].input["userId"].get(), r#"{"$ref":"step://1#/structuredContent/user_id"}"#);
        assert_eq!(linked[2].input["line"].get(), r#"{"$ref":"step://2#/content/0/text"}"#);
        assert_eq!(linked[1].handed, 1.0);
        assert_eq!(used.into_iter().collect::<Vec<_>>(), ["body", "level", "name"]);
    }

    #[test]
    fn what_may_mean_two_things_stays_open() {
        let read = shape(&[], None);
        let put = shape(&["key:string!", "value:string!"], None);
        let (linked, _) = link(&[&read, &put], &BTreeMap::new());
        assert_eq!(linked[1].missing.len(), 2);
        // Nor is a value of another type taken, given or handed over.
        let count = shape(&[], Some(&["count:integer"]));
        let (linked, used) = link(&[&count, &shape(&["count:string!"], None)], &given(r#"{"count":true}"#));
        assert_eq!((linked[1].missing.len(), used.len()), (1, 0));
        let (linked, _) =
            link(&[&shape(&[], Some(&["x:string", "y:string"])), &shape(&["z:string!"], None)], &BTreeMap::new());
        assert_eq!(linked[1].missing.len(), 1);
    }

    #[test]
    fn what_an_earlier_step_took_gives_way_to_what_came_of_it() {
        let convert = shape(&["path:string!"], Some(&["path:string"]));
        let (linked, _) = link(&[&convert, &convert], &given(r#"{"path":"a"}"#));
        assert_eq!(linked[0].input["path"].get(), r#""a""#);
        assert!(linked[1].input["path"].get().contains("step://1#"));
    }
}
