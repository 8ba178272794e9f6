//! `cargo xtask test`: tools, tests, doc tests, examples, that the benches still compile, and the official suite. Also the two small
//! chores that are tests of another kind, `bench` and `openapi`. What is tested is each crate's own matter; here is only the order.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::args::{Args, passed_on};
use crate::process::{Ended, Place, Run, Step, take};
use crate::{conformance, tools};

/// `cargo xtask test [-- NEXTEST ARGS]`.
pub(crate) fn test(place: &Place, args: &[String]) -> Result<()> {
    take(steps(place, &passed_on(args)))
}

/// The steps of `test`. With arguments only the tests they choose run, and the rest is said to be left out.
pub(crate) fn steps<'a>(place: &'a Place, args: &[String]) -> Vec<Step<'a>> {
    let mut steps = tools::steps(place);
    let chosen = args.to_vec();
    let about = format!("cargo nextest run --workspace --all-features {}", args.join(" "));
    steps.push(Step::work("tests", about.trim_end(), move || {
        nextest(place, &["--workspace", "--all-features"], &chosen, &[]).map(Ended::Done)
    }));
    if !args.is_empty() {
        steps.push(Step::skipped(
            "the rest",
            "arguments choose tests; doc tests, examples, benches and conformance run without any",
        ));
        return steps;
    }
    // The same packages and features as the tests, so that nothing is built twice.
    let build = ["build", "--workspace", "--all-features", "--examples", "--benches"];
    steps.push(Step::run("doc tests", Run::cargo(place, &["test", "--doc", "--workspace", "--all-features"])));
    steps.push(Step::run("build examples and benches", Run::cargo(place, &build)));
    steps.push(Step::work("examples", "each example of metamcp-examples runs and must end well", || examples(place)));
    steps.extend(conformance::steps(place, None));
    steps
}

/// Runs tests with nextest, or with plain `cargo test` if nextest cannot be had; the note says which when it is the latter.
/// `envs` are set for the tests and shown.
pub(crate) fn nextest(
    place: &Place,
    what: &[&str],
    args: &[String],
    envs: &[(&str, String)],
) -> Result<Option<String>> {
    let with_envs = |run: Run| envs.iter().rev().fold(run, |run, (name, value)| run.env(name, value));
    let Err(error) = tools::nextest(place) else {
        let run = with_envs(Run::cargo(place, &["nextest", "run"]).args(&owned(what)).args(args));
        run.announce();
        return run.status().map(|()| None);
    };
    let note = format!("with plain `cargo test`, as cargo-nextest cannot be had: {error:#}");
    println!("{note}");
    // nextest's word for showing output as it comes, in the words of the plain runner.
    let (mut before, mut after) = (owned(what), vec!["--".to_owned()]);
    if !what.contains(&"--test") {
        // Doc tests are a step of their own, as nextest does not run them.
        before.push("--tests".to_owned());
    }
    for arg in args {
        if arg == "--no-capture" { after.push("--nocapture".to_owned()) } else { before.push(arg.clone()) }
    }
    let run = with_envs(Run::cargo(place, &["test"]).args(&before).args(&after));
    run.announce();
    run.status().map(|()| Some(note))
}

/// `cargo xtask bench [NAME]`: NAME is a bench file, or part of the names criterion prints.
pub(crate) fn bench(place: &Place, args: &[String]) -> Result<()> {
    let names = passed_on(args);
    let run = Run::cargo(place, &["bench", "-p", "metamcp-benches"]);
    let run = match names.first() {
        Some(name) if names_of(&place.root.join("benches"))?.contains(name) => {
            run.args(&["--bench".to_owned(), name.clone(), "--".to_owned()]).args(&names[1..])
        }
        _ => run.args(&["--benches".to_owned(), "--".to_owned()]).args(&names),
    };
    take(vec![Step::run("bench", run)])
}

/// `cargo xtask openapi`.
pub(crate) fn openapi(place: &Place, args: &[String]) -> Result<()> {
    Args::new(args).finish()?;
    let run =
        Run::cargo(place, &["test", "-p", "metamcp-server", "--test", "openapi"]).env("METAMCP_UPDATE_GOLDEN", "1");
    take(vec![Step::run("openapi", run)])
}

fn examples(place: &Place) -> Result<Ended> {
    let names = names_of(&place.root.join("examples"))?;
    if names.is_empty() {
        bail!("no example found in the folder `examples`");
    }
    let mut failed = Vec::new();
    for name in &names {
        let binary = place.built.join("examples").join(format!("{name}{}", env::consts::EXE_SUFFIX));
        if !binary.exists() {
            bail!("example `{name}` was not built; name it in examples/Cargo.toml");
        }
        println!("\n--> example {name}");
        if let Err(error) = Run::program(place, &binary, &[]).status() {
            println!("FAIL  {error:#}");
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} examples failed: {}", failed.len(), names.len(), failed.join(", "));
    }
    Ok(Ended::Done(Some(names.join(", "))))
}

/// The targets of a package whose files stand in `folder` beside its `lib.rs`, or one folder deeper, A to Z.
fn names_of(folder: &Path) -> Result<Vec<String>> {
    let deeper = folder.join(folder.file_name().context("a folder needs a name")?);
    let mut names = Vec::new();
    for folder in [folder, &deeper].into_iter().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let (Some(stem), Some("rs")) =
                (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str()))
            else {
                continue;
            };
            if !matches!(stem, "lib" | "build") {
                names.push(stem.to_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_rust_files_beside_lib_and_one_folder_deeper() {
        let folder = env::temp_dir().join(format!("metamcp-xtask-names-{}", std::process::id())).join("examples");
        fs::create_dir_all(folder.join("examples")).unwrap();
        for file in ["lib.rs", "Cargo.toml", "embed.rs", "examples/custom.rs"] {
            fs::write(folder.join(file), "").unwrap();
        }
        assert_eq!(names_of(&folder).unwrap(), ["custom", "embed"]);
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }
}
