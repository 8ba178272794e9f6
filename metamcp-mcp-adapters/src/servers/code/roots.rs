//! The fence around what may be read: turns a path of a call into a real path below one of the roots, or refuses it.
//! It opens no file; reading and walking are the work of `source`.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::{CodeServerError, ToolError};

/// The folders below which everything may be read, each in its real (canonical) form.
#[derive(Debug, Clone)]
pub(super) struct Roots {
    roots: Vec<Root>,
}

#[derive(Debug, Clone)]
struct Root {
    /// As configured, made absolute: the form in which callers know it.
    given: PathBuf,
    /// With every symbolic link resolved: the form in which it is compared.
    real: PathBuf,
}

impl Roots {
    /// Resolves the configured roots.
    ///
    /// # Errors
    /// When there is none, or one of them is not an existing folder.
    pub(super) fn new(folders: &[PathBuf]) -> Result<Self, CodeServerError> {
        if folders.is_empty() {
            return Err(CodeServerError::NoRoots);
        }
        let resolve = |root: &PathBuf| {
            let failed = |source| CodeServerError::Root { root: root.clone(), source };
            let given = std::path::absolute(root).map_err(failed)?;
            let real = root.canonicalize().map_err(failed)?;
            if !real.is_dir() {
                return Err(CodeServerError::RootNotFolder { root: root.clone() });
            }
            Ok(Root { given, real })
        };
        Ok(Self { roots: folders.iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// The real path of what a call names. A relative path is looked up in each root, the first that has it wins.
    ///
    /// # Errors
    /// When the path has `..`, does not exist, or lies outside the roots once symbolic links are resolved. Of a path
    /// outside the roots the error never tells whether it exists.
    pub(super) fn resolve(&self, path: &str) -> Result<PathBuf, ToolError> {
        if path.contains('\0') {
            return Err(ToolError::new("path holds a NUL character, which no file name can"));
        }
        let asked = Path::new(path);
        if asked.components().any(|part| part == Component::ParentDir) {
            return Err(ToolError(format!(
                "path `{path}` has `..`, give a path without it below the allowed roots: {}",
                self.named()
            )));
        }
        if asked.is_absolute() {
            let inside = |root: &Root| asked.starts_with(&root.given) || asked.starts_with(&root.real);
            return if self.roots.iter().any(inside) { self.real(path, asked) } else { Err(self.outside(path)) };
        }
        let found = self.roots.iter().map(|root| root.real.join(asked)).find(|full| full.symlink_metadata().is_ok());
        match found {
            Some(full) => self.real(path, &full),
            None => Err(self.missing(path)),
        }
    }

    /// How answers name a real path: relative to the first root, or absolute below any other. Either form is accepted
    /// as the path of a later call.
    pub(super) fn display(&self, real: &Path) -> String {
        let first = self.roots.first().expect("new refuses an empty list of roots");
        match real.strip_prefix(&first.real) {
            Ok(relative) if relative.as_os_str().is_empty() => ".".to_owned(),
            Ok(relative) => relative.to_string_lossy().into_owned(),
            Err(_) => real.to_string_lossy().into_owned(),
        }
    }

    /// True when a real path lies below a root.
    pub(super) fn hold(&self, real: &Path) -> bool {
        self.roots.iter().any(|root| real.starts_with(&root.real))
    }

    fn real(&self, path: &str, full: &Path) -> Result<PathBuf, ToolError> {
        let real = full.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.missing(path),
            _ => ToolError(format!("path `{path}` cannot be read: {error}")),
        })?;
        if self.hold(&real) { Ok(real) } else { Err(self.outside(path)) }
    }

    fn missing(&self, path: &str) -> ToolError {
        ToolError(format!("no file or folder `{path}` below the allowed roots: {}", self.named()))
    }

    fn outside(&self, path: &str) -> ToolError {
        ToolError(format!("path `{path}` is outside the allowed roots: {}", self.named()))
    }

    fn named(&self) -> String {
        self.roots.iter().map(|root| root.given.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_root_and_an_empty_list_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("nowhere");
        let error = Roots::new(std::slice::from_ref(&missing)).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert!(matches!(Roots::new(&[]), Err(CodeServerError::NoRoots)));

        let file = folder.path().join("file.rs");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(Roots::new(&[file]), Err(CodeServerError::RootNotFolder { .. })));
    }

    #[test]
    fn a_path_of_the_second_root_is_found_and_named_absolutely() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(second.path().join("b.rs"), "").unwrap();
        let roots = Roots::new(&[first.path().into(), second.path().into()]).unwrap();
        let real = roots.resolve("b.rs").unwrap();
        let named = roots.display(&real);
        assert!(Path::new(&named).is_absolute());
        assert_eq!(roots.resolve(&named).unwrap(), real);
        assert_eq!(roots.display(&roots.resolve(".").unwrap()), ".");
    }
}
