//! What is known of words before any catalogue is seen: their stems, which ones say little in a need, and a few general synonyms.
//!
//! General English of software and requests only: no tool, product or server is named here.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
};

use rust_stemmers::{Algorithm, Stemmer};

/// Grammar: says nothing of what is needed.
const STOP: &str = "a about after all also am an and any are as at be because been before being but by can could d did do does doing don \
    for from further had has have having he her here hers him his how i if in into is it its just like ll m me more most my myself need \
    no nor not now of off on once only or other our out over own please re s same she should so some such t than that the their them \
    then there these they this those through to too under until up us ve very want was we were what when where which while who whom \
    why will with would you your yours";

/// Words of asking and of praise: they say little beside a word that names a thing.
const FAINT: &str = "able add additional allow another ask available based best better certain check come current currently detail \
    detailed different easily else example exact exactly explain find first free general get getting give given go going good great \
    hello help helpful hi idea important include included including information interested interesting involve kindly know last latest \
    let list little long look looking lot made make making many may maybe might month much must name never new next nice number offer \
    old one particular people possible provide provided provides related relevant right said say see sentence several show showing \
    since something sort specific specifically start still suggest sure take talk tell thank thanks thing time today together tool try \
    two type unique use used useful user using various way week well without work year yes yet";

/// Words of one meaning in software tools, a group a line.
const SYNONYMS: [&str; 14] = [
    "create make generate new build",
    "delete remove erase drop",
    "fetch get retrieve download obtain read",
    "find search locate lookup query",
    "folder directory",
    "picture image photo",
    "price cost",
    "repo repository",
    "run execute",
    "send post",
    "show list display view",
    "update edit modify change",
    "website site webpage page",
    "calculate compute",
];

/// How much a word of a need says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Grammar.
    Nothing,
    /// A word of asking.
    Little,
    /// Everything else.
    Much,
}

/// Stems, stop words and synonyms.
pub(super) struct Words {
    stemmer: Stemmer,
    stop: HashSet<&'static str>,
    faint: HashSet<String>,
    synonyms: HashMap<String, Vec<String>>,
}

impl Words {
    pub(super) fn new() -> Self {
        let stemmer = Stemmer::create(Algorithm::English);
        let faint = FAINT.split_whitespace().map(|w| stemmer.stem(w).into_owned()).collect();
        let mut words = Self { stemmer, stop: STOP.split_whitespace().collect(), faint, synonyms: HashMap::new() };
        SYNONYMS.iter().for_each(|group| words.add_synonyms(group));
        words
    }

    /// Adds a group of words of one meaning, with spaces between them.
    pub(super) fn add_synonyms(&mut self, group: &str) {
        let mut stems: Vec<String> = Vec::new();
        super::tokens::tokens(group, |word, _| {
            let stem = self.stem(word).into_owned();
            if !stems.contains(&stem) {
                stems.push(stem);
            }
        });
        for stem in &stems {
            let known = self.synonyms.entry(stem.clone()).or_default();
            known.extend(stems.iter().filter(|other| *other != stem).cloned());
            known.sort_unstable();
            known.dedup();
        }
    }

    /// Words of one meaning with this stem, as stems, sorted.
    pub(super) fn synonyms(&self, stem: &str) -> &[String] {
        self.synonyms.get(stem).map_or(&[], Vec::as_slice)
    }

    /// The stem of a lower-case word; words of other scripts stand for themselves.
    pub(super) fn stem<'a>(&self, word: &'a str) -> Cow<'a, str> {
        if word.len() > 2 && word.bytes().all(|b| b.is_ascii_lowercase()) {
            self.stemmer.stem(word)
        } else {
            Cow::Borrowed(word)
        }
    }

    /// Whether a lower-case word is grammar.
    pub(super) fn is_stop(&self, word: &str) -> bool {
        self.stop.contains(word)
    }

    /// How much a stem says that is no stop word.
    pub(super) fn said(&self, stem: &str) -> Said {
        if self.faint.contains(stem) { Said::Little } else { Said::Much }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("synonyms", &self.synonyms.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inflections_share_a_stem_and_other_scripts_are_kept() {
        let words = Words::new();
        assert_eq!(words.stem("directories"), words.stem("directory"));
        assert_eq!(words.stem("searching"), words.stem("searches"));
        assert_eq!(words.stem("größe"), "größe");
        assert_eq!(words.stem("s3"), "s3");
    }

    #[test]
    fn synonyms_go_both_ways_and_can_be_added() {
        let mut words = Words::new();
        assert!(words.synonyms("remov").contains(&"delet".to_owned()));
        assert!(words.synonyms("delet").contains(&"remov".to_owned()));
        words.add_synonyms("ticket issue");
        assert_eq!(words.synonyms("ticket"), ["issu"]);
    }

    #[test]
    fn grammar_says_nothing_and_asking_says_little() {
        let words = Words::new();
        assert!(words.is_stop("the") && !words.is_stop("weather"));
        assert_eq!(words.said(&words.stem("provides")), Said::Little);
        assert_eq!(words.said("weather"), Said::Much);
    }
}
