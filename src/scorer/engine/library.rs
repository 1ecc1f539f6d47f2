//! Where ONNX Runtime's library is: told, in `ORT_DYLIB_PATH`, beside the binary, or in a Python environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::EngineError;

/// Oldest ONNX Runtime that has the interface used here: 1.24.
pub const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

const NAME: &str = "libonnxruntime.so";

/// Where to look, in order; taken from the process by `Places::of_process`, by hand in tests.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `engine.library`.
    pub settings: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`.
    pub variable: Option<OsString>,
    /// The binary's directory.
    pub beside: Option<PathBuf>,
    /// Roots of Python environments: `VIRTUAL_ENV`, `CONDA_PREFIX`, that of the `python3` in `PATH`.
    pub environments: Vec<PathBuf>,
}

impl Places {
    pub fn of_process(settings: Option<&Path>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let beside = std::env::current_exe().ok().and_then(|binary| binary.parent().map(Path::to_path_buf));
        let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).map(PathBuf::from);
        let path = variable("PATH").unwrap_or_default();
        // A virtual environment's `python3` is a link to another's: its own place counts, then where it leads.
        let python = std::env::split_paths(&path).map(|dir| dir.join("python3")).find(|python| python.is_file());
        let resolved = python.as_ref().and_then(|python| python.canonicalize().ok());
        let roots = [python, resolved].into_iter().flatten();
        let roots = roots.filter_map(|python| Some(python.parent()?.parent()?.to_path_buf()));
        Self {
            settings: settings.map(Path::to_path_buf),
            variable: variable("ORT_DYLIB_PATH"),
            beside,
            environments: active.chain(roots).collect(),
        }
    }
}

/// # Errors
/// The library is nowhere, or not where it was said to be; the error says what to install.
pub fn find(places: &Places) -> Result<PathBuf, EngineError> {
    let told = [
        (places.settings.clone(), "`engine.library`"),
        (places.variable.clone().map(PathBuf::from), "`ORT_DYLIB_PATH`"),
    ];
    for (path, source) in told {
        if let Some(path) = path {
            return if path.is_file() {
                Ok(path)
            } else {
                let shown = path.display();
                Err(EngineError::Unavailable(format!("{source} names {shown}, which is not a file; {}", how_to())))
            };
        }
    }
    let beside = places.beside.iter().find_map(|directory| newest(directory));
    let in_python = || places.environments.iter().find_map(|root| newest_in_python(root));
    beside
        .or_else(in_python)
        .ok_or_else(|| EngineError::Unavailable(format!("ONNX Runtime's library was not found; {}", how_to())))
}

/// What a person does who has no library.
pub fn how_to() -> String {
    format!(
        "install it (`pip install onnxruntime`, version 1.{OLDEST_MINOR} or newer) and activate that environment, put \
         {NAME} beside the binary, or set `ORT_DYLIB_PATH` to it"
    )
}

/// `lib/python3.*/site-packages/onnxruntime/capi`, and Debian's `lib/python3/dist-packages`.
fn newest_in_python(root: &Path) -> Option<PathBuf> {
    let directories = std::fs::read_dir(root.join("lib")).ok()?.flatten().map(|entry| entry.path());
    let is_python = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("python3"))
    };
    let packages =
        directories.filter(is_python).flat_map(|path| [path.join("site-packages"), path.join("dist-packages")]);
    let mut found: Vec<PathBuf> = packages.filter_map(|path| newest(&path.join("onnxruntime/capi"))).collect();
    found.sort_by_key(|path| version(path));
    found.pop()
}

/// The library with the highest version in a directory.
fn newest(directory: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    files.filter(|path| version(path).is_some() && path.is_file()).max_by_key(|path| version(path))
}

/// `libonnxruntime.so.1.32.0` is [1, 32, 0], `libonnxruntime.so` is nothing in particular; others are not the library.
fn version(path: &Path) -> Option<Vec<u32>> {
    let rest = path.file_name()?.to_str()?.strip_prefix(NAME)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    rest.strip_prefix('.')?.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: &Path, file: &str) -> PathBuf {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"").unwrap();
        path
    }

    #[test]
    fn the_library_is_looked_for_where_it_was_told_then_beside_then_in_python() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        place(root, "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.9.0");
        place(root, "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_shared.so");
        let python = place(root, "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0");
        let beside = place(root, "bin/libonnxruntime.so");
        let told = place(root, "other/library.so");
        let mut places = Places { environments: vec![root.join("none"), root.join("venv")], ..Places::default() };
        assert_eq!(find(&places), Ok(python));
        places.beside = Some(root.join("bin"));
        assert_eq!(find(&places), Ok(beside));
        places.variable = Some(told.clone().into_os_string());
        assert_eq!(find(&places), Ok(told));
        places.settings = Some(root.join("missing.so"));
        let error = find(&places).unwrap_err().to_string();
        assert!(error.starts_with("`engine.library` names ") && error.contains("pip install onnxruntime"), "{error}");
    }

    #[test]
    fn without_a_library_the_error_says_what_to_install() {
        let error = find(&Places::default()).unwrap_err().to_string();
        assert!(error.starts_with("ONNX Runtime's library was not found; install it (`pip install"), "{error}");
    }
}
