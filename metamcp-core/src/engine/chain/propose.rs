//! Makes a plan: splits the need, ranks its parts, and chooses the chain of tools that serves them and holds together.

use std::{cmp::Ordering, collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    MissingInput, PLAN_STEPS_MAX, Plan, PlanStep,
    clauses::{Break, Clause, split},
    link::{Linked, Shape, link},
    shape::{fits, likeness, properties, words},
};
use crate::{
    auth::Principal,
    engine::{error::EngineError, ports::Ports, servers::Servers, submit::rank},
    json::RawJson,
    matching::{Capability, ROUTE_CANDIDATES_MAX, UNKNOWN_INPUT},
    task::{InvalidTask, Need, Task},
};

/// Tools of a part of the need that are tried: with four steps 256 chains.
const CHOICES_MAX: usize = 4;
/// A tool covers a part of the need when it scores at least this share of that part's best.
const COVERS_SHARE: f32 = 0.9;
/// What no word of order begins is a step of its own when its tool scores at least this share of the best for the whole need.
const PART_SHARE_MIN: f32 = 0.5;
/// What an argument that nobody gives costs, in the measure in which a step of the best tool is 1.
const MISSING_COST: f32 = 0.1;
/// What a hand-over by name is worth, in the same measure.
const HANDED_GAIN: f32 = 0.2;
/// What a member of the caller's input that no step takes costs.
const UNUSED_COST: f32 = 0.1;

/// A tool with what it does for a part of the need.
#[derive(Debug, Clone)]
struct Choice {
    capability: Arc<Capability>,
    shape: Arc<Shape>,
    /// Its score as a share of the best one's.
    share: f32,
}

/// A part of the need with its tools, best first.
#[derive(Debug, Clone)]
struct Part {
    span: Range<usize>,
    begins: Break,
    choices: Vec<Choice>,
}

/// A step that is thought of.
#[derive(Debug, Clone)]
struct Draft {
    words: String,
    choice: Choice,
    /// What it is there for when no part of the need asks for it.
    fetches: Option<String>,
}

/// A chain that is thought of, with its arguments.
#[derive(Debug)]
struct Chain {
    steps: Vec<Draft>,
    linked: Vec<Linked>,
    unused: Vec<String>,
    worth: f32,
}

/// Proposes a plan for a need. Calls no tool.
pub(in crate::engine) async fn propose(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    need: Need,
) -> Result<Plan, EngineError> {
    if need.tool.is_some() {
        return Err(InvalidTask::new("tool", "leave it out; a need with its tool is a task, no plan").into());
    }
    let task = Task { need, ..Task::default() };
    ports.limits.check(&task)?;
    let need = task.need;
    let wish = || InvalidTask::new("input", "must be a JSON object");
    let given: BTreeMap<String, RawJson> = need.input.view().map_err(|_| wish())?;
    Planner { ports, servers, who, need, given }.plan().await
}

struct Planner<'a> {
    ports: &'a Ports,
    servers: &'a Arc<Servers>,
    who: &'a Principal,
    need: Need,
    given: BTreeMap<String, RawJson>,
}

impl Planner<'_> {
    async fn plan(&self) -> Result<Plan, EngineError> {
        let mut whole = Part { span: 0..self.need.text.len(), begins: Break::Order, choices: Vec::new() };
        whole.choices = self.choices(&self.need.text, ROUTE_CANDIDATES_MAX).await?;
        let parts = self.parts(&whole).await?;
        whole.choices.truncate(CHOICES_MAX);
        let mut chains = Vec::new();
        let covering: Vec<Choice> = whole.choices.iter().filter(|choice| covers(choice, &parts)).cloned().collect();
        if parts.len() > 1 && covering.is_empty() {
            let parts = self.held_together(parts).await?;
            let asked_for = parts.iter().skip(1).any(|part| part.begins == Break::Order);
            chains.extend(self.best(&parts).filter(|_| parts.len() > 1));
            if asked_for {
                whole.choices.clear();
            }
        } else if !covering.is_empty() {
            whole.choices = covering;
        }
        chains.extend(self.best(std::slice::from_ref(&whole)));
        let mut completed = Vec::new();
        for chain in chains {
            completed.push(self.completed(chain).await?);
        }
        // What can run goes before what cannot, then what is worth more.
        let key = |chain: &Chain| (missing(chain) > 0, -chain.worth);
        let best = completed.into_iter().min_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(Ordering::Equal));
        Ok(best.map_or_else(|| Plan { need: self.need.text.clone(), ..Plan::default() }, |chain| self.told(chain)))
    }

    /// The parts of the need. One is joined with the one before when no tool serves it, when the same tool serves both best, or when nothing
    /// but a comma or the end of a sentence parts them and the tool of either counts little beside those of the whole need.
    async fn parts(&self, whole: &Part) -> Result<Vec<Part>, EngineError> {
        let best = |part: &Part| part.choices.first().map(|choice| choice.capability.id.clone());
        let counts = |part: &Part| {
            let best = best(part);
            let stands =
                |choice: &Choice| Some(&choice.capability.id) == best.as_ref() && choice.share >= PART_SHARE_MIN;
            whole.choices.iter().any(stands)
        };
        let mut parts: Vec<Part> = Vec::new();
        for Clause { span, begins } in split(&self.need.text) {
            let part = self.part(span, begins).await?;
            let one = |before: &Part| {
                let empty = part.choices.is_empty() || before.choices.is_empty();
                let faint = part.begins != Break::Order && !(counts(before) && counts(&part));
                empty || faint || best(before) == best(&part)
            };
            match parts.last_mut().filter(|before| one(before)) {
                Some(before) => *before = self.part(before.span.start..part.span.end, before.begins).await?,
                None => parts.push(part),
            }
        }
        parts.retain(|part| !part.choices.is_empty());
        Ok(parts)
    }

    /// The parts joined until they are few enough, and each that no word of order begins takes something from the ones before.
    async fn held_together(&self, mut parts: Vec<Part>) -> Result<Vec<Part>, EngineError> {
        loop {
            let loose = if parts.len() > PLAN_STEPS_MAX {
                (1..parts.len()).min_by_key(|at| parts[*at].begins)
            } else {
                let chain = self.best(&parts);
                let handed = |at: usize| chain.as_ref().is_some_and(|chain| chain.linked[at].handed > 0.0);
                (1..parts.len()).find(|at| parts[*at].begins != Break::Order && !handed(*at))
            };
            let Some(at) = loose else { return Ok(parts) };
            if parts[at].begins == Break::Order {
                let steps = parts.len();
                let mend = format!("asks for {steps} steps, over the bound of {PLAN_STEPS_MAX}; ask for less at once");
                return Err(InvalidTask::new("need", mend).into());
            }
            let part = parts.remove(at);
            parts[at - 1] = self.part(parts[at - 1].span.start..part.span.end, parts[at - 1].begins).await?;
        }
    }

    /// A part of the need with the tools that serve its words, whatever input they take.
    async fn part(&self, span: Range<usize>, begins: Break) -> Result<Part, EngineError> {
        let choices = self.choices(&self.need.text[span.clone()], CHOICES_MAX).await?;
        Ok(Part { span, begins, choices })
    }

    async fn choices(&self, words: &str, max: usize) -> Result<Vec<Choice>, EngineError> {
        let open = RawJson::parse(UNKNOWN_INPUT).expect("`null` is JSON");
        let need = Need { text: words.to_owned(), input: open, ..self.need.clone() };
        let route = rank(self.ports, self.servers, self.who, &need).await?;
        let top = route.candidates.first().map_or(1.0, |best| best.score.max(f32::MIN_POSITIVE));
        let catalog = self.servers.catalog();
        let choice = |candidate: &crate::matching::Candidate| {
            let capability = Arc::clone(catalog.get(&candidate.capability)?);
            let gives = capability.output_schema.as_ref().map(properties);
            let shape = Arc::new(Shape { takes: properties(&capability.input_schema), gives });
            Some(Choice { capability, shape, share: candidate.score / top })
        };
        Ok(route.candidates.iter().take(max).filter_map(choice).collect())
    }

    /// The chain of one tool for each part that is worth most.
    fn best(&self, parts: &[Part]) -> Option<Chain> {
        let mut picks: Vec<Vec<usize>> = vec![Vec::new()];
        for part in parts {
            let more = |pick: &Vec<usize>| {
                let pick = pick.clone();
                (0..part.choices.len()).map(move |at| pick.iter().copied().chain([at]).collect())
            };
            picks = picks.iter().flat_map(more).collect();
        }
        let step = |(part, at): (&Part, usize)| Draft {
            words: self.need.text[part.span.clone()].trim().to_owned(),
            choice: part.choices[at].clone(),
            fetches: None,
        };
        let chains = picks.into_iter().map(|pick| self.chain(parts.iter().zip(pick).map(step).collect()));
        // Of two that are worth the same the first stands: it has the better tools in front.
        chains.reduce(|best, chain| if chain.worth > best.worth { chain } else { best })
    }

    fn chain(&self, steps: Vec<Draft>) -> Chain {
        let shapes: Vec<&Shape> = steps.iter().map(|step| &*step.choice.shape).collect();
        let (linked, used) = link(&shapes, &self.given);
        let unused: Vec<String> = self.given.keys().filter(|name| !used.contains(*name)).cloned().collect();
        let handed: f32 = linked.iter().map(|step| step.handed).sum();
        let open: usize = linked.iter().map(|step| step.missing.len()).sum();
        let of_steps = (HANDED_GAIN * handed - MISSING_COST * open as f32) / steps.len().max(1) as f32;
        let worth = served(&steps) + of_steps - UNUSED_COST * unused.len() as f32;
        Chain { steps, linked, unused, worth }
    }

    /// The chain with steps put in that fetch what is missing: tools that declare to only read, and whose own arguments are in
    /// the input or in an earlier result under the same name.
    async fn completed(&self, mut chain: Chain) -> Result<Chain, EngineError> {
        while chain.steps.len() < PLAN_STEPS_MAX {
            let Some((at, property)) =
                chain.linked.iter().enumerate().find_map(|(at, l)| Some((at, l.missing.first()?.clone())))
            else {
                break;
            };
            let step = &chain.steps[at];
            let asked = format!("{} {}", step.words, words(&property.name).join(" "));
            let fetches = |choice: &Choice| {
                let given = choice.shape.gives.iter().flatten();
                let mut same =
                    given.filter(|p| likeness(&p.name, &property.name) >= 1.0 && fits(&p.kinds, &property.kinds));
                choice.capability.annotations.read_only_hint == Some(true)
                    && same.next().is_some()
                    && chain.steps.iter().all(|step| step.choice.capability.id != choice.capability.id)
            };
            let found = self.choices(&asked, usize::MAX).await?;
            let better = found.into_iter().filter(fetches).find_map(|choice| {
                let words = step.words.clone();
                let mut steps = chain.steps.clone();
                steps.insert(at, Draft { words, choice, fetches: Some(property.name.clone()) });
                let longer = self.chain(steps);
                // Nobody asked for it: what it takes must be beyond doubt.
                let sure = longer.linked[at].missing.is_empty() && !longer.linked[at].guessed;
                (sure && missing(&longer) < missing(&chain)).then_some(longer)
            });
            match better {
                Some(longer) => chain = longer,
                None => break,
            }
        }
        Ok(chain)
    }

    fn told(&self, chain: Chain) -> Plan {
        let mut plan = Plan { need: self.need.text.clone(), unused: chain.unused, ..Plan::default() };
        plan.score = served(&chain.steps);
        for (at, (step, linked)) in chain.steps.into_iter().zip(chain.linked).enumerate() {
            let first = match step.fetches {
                Some(property) => format!("fetches `{property}`, which a later step asks for; it only reads"),
                None => format!("serves these words with {:.0} % of the best tool's score", step.choice.share * 100.0),
            };
            let open = linked.missing.into_iter().map(|property| MissingInput {
                step: at + 1,
                property: property.name,
                kind: (!property.kinds.is_empty()).then(|| property.kinds.join(" or ")),
            });
            plan.missing.extend(open);
            plan.steps.push(PlanStep {
                words: step.words,
                capability: step.choice.capability.id.clone(),
                definition: Some(step.choice.capability.digest),
                input: linked.input,
                reasons: std::iter::once(first).chain(linked.reasons).collect(),
            });
        }
        plan
    }
}

/// How well the steps that the need asks for are served, on average.
fn served(steps: &[Draft]) -> f32 {
    let asked = || steps.iter().filter(|step| step.fetches.is_none());
    asked().map(|step| step.choice.share).sum::<f32>() / asked().count().max(1) as f32
}

fn missing(chain: &Chain) -> usize {
    chain.linked.iter().map(|step| step.missing.len()).sum()
}

/// Whether one tool serves every part about as well as the part's best does.
fn covers(choice: &Choice, parts: &[Part]) -> bool {
    let id = &choice.capability.id;
    parts.iter().all(|part| part.choices.iter().any(|c| c.capability.id == *id && c.share >= COVERS_SHARE))
}
