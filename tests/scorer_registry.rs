//! The registry through its command line: processes that are killed, files that are changed, disks that are full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

struct World {
    _folder: tempfile::TempDir,
    registry: PathBuf,
}

impl World {
    fn new(versions: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("registry");
        std::fs::create_dir(&registry).unwrap();
        let world = Self { _folder: folder, registry };
        for number in 1..=versions {
            let file = world.file(&format!("{number}.onnx"), &vec![number; 4_000]);
            world.json(&["register", "fraud", file.to_str().unwrap()]);
        }
        world
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.registry.parent().unwrap().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn version(&self, version: &str) -> PathBuf {
        self.registry.join("models/fraud/versions").join(version)
    }

    /// The models of these tests are none: what is registered here is not loaded.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline-scorer"));
        command
            .args(args)
            .args((args[0] == "register").then_some("--unchecked"))
            .env("DRIFTLINE_SCORER_REGISTRY", &self.registry)
            .env("USER", "tester");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--format", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The exit code and what is said on the standard error.
    fn refused(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} succeeded: {}", String::from_utf8_lossy(&output.stdout));
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn state(&self) -> Value {
        self.json(&["list"])[0].clone()
    }

    /// One entry for each generation, each from where the one before led to, the last one to the state.
    fn assert_audit_is_whole(&self) {
        let (state, audit) = (self.state(), self.json(&["audit", "fraud", "--limit", "100000"]));
        let entries = audit.as_array().unwrap();
        assert_eq!(entries.len() as u64, state["generation"].as_u64().unwrap());
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(entry["generation"].as_u64().unwrap(), index as u64 + 1);
            if index > 0 {
                assert_eq!(entry["from"], entries[index - 1]["to"], "generation {}", index + 1);
            }
        }
        if let Some(last) = entries.last() {
            assert_eq!(
                (&last["to"]["production"], &last["to"]["previous"]),
                (&state["production"], &state["previous"])
            );
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Time that one undisturbed command takes, from its start to its end.
fn undisturbed(world: &World, args: &[&str]) -> Duration {
    let start = Instant::now();
    assert!(world.run(args).status.success(), "{args:?}");
    start.elapsed()
}

/// Kills `change` at moments spread over its whole life, `kills` times, and looks after each what is there.
fn kill_in_the_middle(kills: u32, prepare: impl Fn(&World), change: &[&str], valid: [(&str, &str); 2]) {
    let world = World::new(3);
    prepare(&world);
    let full = undisturbed(&world, change);
    let mut seen = [0_u32; 2];
    for kill in 0..kills {
        prepare(&world);
        // A golden-ratio sequence: moments spread evenly, in no order.
        let share = (f64::from(kill) * 0.618_033_988_75).fract();
        let mut child = world.command(change).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(full.mul_f64(share * 1.2));
        child.kill().unwrap();
        child.wait().unwrap();
        let state = world.state();
        let found = (state["production"].as_str().unwrap(), state["previous"].as_str().unwrap_or("none"));
        let which = valid.iter().position(|valid| *valid == found);
        seen[which.unwrap_or_else(|| panic!("kill {kill}: {found:?} is neither of {valid:?}"))] += 1;
        world.assert_audit_is_whole();
    }
    world.json(&["verify", "fraud"]);
    eprintln!("{kills} kills within {full:?}: {} before the change, {} after it", seen[0], seen[1]);
    assert!(seen.iter().all(|&count| count > 0), "kills on both sides of the change are wanted: {seen:?}");
}

fn promote(world: &World, version: &str) {
    world.json(&["promote", "fraud", version, "--force"]);
}

#[test]
fn kill_nine_during_promote_leaves_the_state_before_or_after() {
    let prepare = |world: &World| ["1", "2"].iter().for_each(|version| promote(world, version));
    kill_in_the_middle(100, prepare, &["promote", "fraud", "3", "--force"], [("2", "1"), ("3", "2")]);
}

#[test]
fn kill_nine_during_rollback_leaves_the_state_before_or_after() {
    let prepare = |world: &World| ["1", "2", "3"].iter().for_each(|version| promote(world, version));
    kill_in_the_middle(100, prepare, &["rollback", "fraud", "--production", "3"], [("3", "2"), ("2", "3")]);
}

#[test]
fn kill_nine_during_register_leaves_whole_versions_only() {
    let world = World::new(1);
    let mut kept = 0;
    let big = world.file("big.onnx", &vec![7; 3_000_000]);
    let big = big.to_str().unwrap();
    let full = undisturbed(&world, &["register", "fraud", big, "--seed", "999999"]);
    for kill in 0..60_u32 {
        let seed = kill.to_string();
        let register = ["register", "fraud", big, "--seed", &seed];
        let mut child = world.command(&register).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(full.mul_f64((f64::from(kill) * 0.618_033_988_75).fract() * 1.2));
        child.kill().unwrap();
        child.wait().unwrap();
        let versions = world.json(&["verify", "fraud"]);
        kept = versions.as_array().unwrap().len();
    }
    eprintln!("60 kills within {full:?} left {} versions more", kept - 2);
    world.json(&["register", "fraud", big, "--seed", "77"]);
    let incoming = world.registry.join("models/fraud/incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0, "what was left over is tidied up");
}

#[test]
fn many_processes_at_once_change_it_one_after_the_other() {
    let world = World::new(3);
    promote(&world, "1");
    let children: Vec<_> = (0..12)
        .map(|number| {
            let version = ["1", "2", "3"][number % 3];
            let args = ["promote", "fraud", version, "--force", "--expected-generation", "1"];
            world.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<i32> = children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
    assert_eq!(world.state()["generation"], 2, "one of those that saw generation 1 won: {codes:?}");
    assert!(codes.iter().all(|code| [0, 1].contains(code)), "{codes:?}");
    world.assert_audit_is_whole();
}

#[test]
fn a_truncated_model_is_refused_at_every_length() {
    let world = World::new(2);
    promote(&world, "1");
    let file = world.version("2").join("model.onnx");
    let whole = std::fs::read(&file).unwrap();
    for length in (0..whole.len()).step_by(157) {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &whole[..length]).unwrap();
        let (code, error) = world.refused(&["promote", "fraud", "2"]);
        assert_eq!(code, 1);
        assert!(error.contains(&format!("`model.onnx` has {length} bytes, its manifest says 4000")), "{error}");
    }
    assert_eq!(world.state()["production"], "1");
    assert_eq!(world.state()["generation"], 1);
}

#[test]
fn a_changed_byte_of_model_or_manifest_is_refused() {
    let world = World::new(1);
    let key = world.registry.parent().unwrap().join("key.pem");
    let public = world.run(&["keygen", key.to_str().unwrap()]);
    let public = String::from_utf8(public.stdout).unwrap().trim().to_string();
    world.json(&["sign", "fraud", "1", "--key", key.to_str().unwrap()]);
    let trusted = ["verify", "fraud", "1", "--require-signature", "--trusted-key", &public];
    assert_eq!(world.json(&trusted)[0]["whole"], true);
    for name in ["model.onnx", "MANIFEST.json"] {
        let file = world.version("1").join(name);
        let whole = std::fs::read(&file).unwrap();
        let positions: Vec<usize> = (0..whole.len()).step_by(whole.len() / 40).collect();
        for position in positions {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, &changed).unwrap();
            let output = world.run(&[&trusted[..], &["--format", "json"]].concat());
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(answer[0]["whole"], false, "{name} byte {position}");
            assert_eq!(output.status.code(), Some(1));
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &whole).unwrap();
    }
    assert_eq!(world.json(&trusted)[0]["whole"], true);
}

#[test]
fn links_strange_files_and_another_versions_manifest_are_refused() {
    let world = World::new(3);
    let model = world.version("1").join("model.onnx");
    let outside = world.file("outside.onnx", &[1; 4_000]);
    std::fs::remove_file(&model).unwrap();
    std::os::unix::fs::symlink(&outside, &model).unwrap();
    assert!(world.refused(&["promote", "fraud", "1"]).1.contains("symbolic link"));
    std::fs::write(world.version("2").join("weights.bin"), "w").unwrap();
    assert!(world.refused(&["promote", "fraud", "2"]).1.contains("`weights.bin` is not in its manifest"));
    copy(&world.version("3"), &world.version("4"));
    assert!(world.refused(&["promote", "fraud", "4"]).1.contains("its manifest is that of fraud version 3"));
    std::os::unix::fs::symlink(world.version("3"), world.version("5")).unwrap();
    assert!(world.refused(&["promote", "fraud", "5"]).1.contains("symbolic link"));
    for version in ["..", "../../fraud/versions/3", "3/", "a b"] {
        assert_eq!(world.refused(&["promote", "fraud", version]).0, 2, "{version}");
    }
    for model in ["..", "../fraud", "fraud/", "/etc"] {
        assert_eq!(world.refused(&["promote", model, "3"]).0, 2, "{model}");
    }
    assert_eq!(world.state()["generation"], 0);
}

/// Runs a command that can write files of at most `blocks` KiB, as on a disk that is nearly full.
fn with_little_room(world: &World, blocks: u32, args: &[&str]) -> Output {
    let mut command = Command::new("bash");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_driftline-scorer")]).args(args);
    command.env("DRIFTLINE_SCORER_REGISTRY", &world.registry).output().unwrap()
}

#[test]
fn a_full_disk_is_told_and_changes_nothing() {
    let world = World::new(2);
    promote(&world, "1");
    let before = world.state();
    let big = world.file("big.onnx", &[7; 100_000]);
    let output = with_little_room(&world, 8, &["register", "fraud", big.to_str().unwrap(), "--unchecked"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("cannot write") && error.contains("model.onnx"), "{error}");
    let incoming = world.registry.join("models/fraud/incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0, "nothing is left to fill the disk");
    let output = with_little_room(&world, 0, &["promote", "fraud", "2"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("cannot write") && error.contains("state.json.new"), "{error}");
    assert_eq!(world.state(), before);
    world.assert_audit_is_whole();
    promote(&world, "2");
}

#[test]
fn a_torn_audit_is_mended_by_the_next_change() {
    let world = World::new(2);
    promote(&world, "1");
    promote(&world, "2");
    let audit = world.registry.join("models/fraud/audit.jsonl");
    let whole = std::fs::read(&audit).unwrap();
    let first_line = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for length in [first_line, first_line + 1, whole.len() - 30, whole.len() - 1, whole.len()] {
        std::fs::write(&audit, &whole[..length]).unwrap();
        world.assert_audit_is_whole();
        promote(&world, if world.state()["production"] == "2" { "1" } else { "2" });
        world.assert_audit_is_whole();
        let lines = std::fs::read_to_string(&audit).unwrap();
        assert!(lines.ends_with('\n') && lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        // Back to two generations, for the next length.
        std::fs::remove_file(world.registry.join("models/fraud/state.json")).unwrap();
        std::fs::remove_file(&audit).unwrap();
        promote(&world, "1");
        promote(&world, "2");
    }
}

#[test]
fn a_retraining_manifest_is_answered_by_one_version() {
    let world = World::new(1);
    let manifest = serde_json::json!({"version": 1, "run": "5f1c", "model": "fraud", "seed": 42,
        "reference": {"name": "training", "id": "sha256:abc"}});
    let manifest = world.file("manifest.json", manifest.to_string().as_bytes());
    let model = world.file("answer.onnx", &[9; 100]);
    let (manifest, model) = (manifest.to_str().unwrap(), model.to_str().unwrap());
    let register = ["register", "fraud", model, "--retraining-manifest", manifest, "--git-commit", "c0ffee"];
    assert_eq!(world.json(&register)["version"], "2");
    let again = world.json(&register);
    assert_eq!((&again["version"], &again["was_there"]), (&"2".into(), &true.into()));
    let shown = world.json(&["show", "fraud", "2"])["manifest"].clone();
    assert_eq!((&shown["seed"], &shown["retraining_run"]), (&42.into(), &"5f1c".into()));
    assert_eq!(shown["reference"], "sha256:abc");
    let (code, error) = world.refused(&["register", "other", model, "--retraining-manifest", manifest]);
    assert_eq!(code, 2);
    assert!(error.contains("asks for a version of model fraud, not other"), "{error}");
}

/// Runs a script with mounts of its own, which only it sees.
fn with_own_mounts(world: &World, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "bash", "-c", script]);
    command.env("SCORER", env!("CARGO_BIN_EXE_driftline-scorer"));
    command.env("DRIFTLINE_SCORER_REGISTRY", &world.registry).output().unwrap()
}

#[test]
#[ignore = "needs Linux's user namespaces: mounts the registry read-only"]
fn a_read_only_disk_is_told_and_can_be_read() {
    let world = World::new(2);
    promote(&world, "1");
    let (before, big) = (world.state(), world.file("new.onnx", &[9; 100]));
    let read_only = r#"R="$DRIFTLINE_SCORER_REGISTRY"; mount --bind "$R" "$R" && mount -o remount,ro,bind "$R" && "#;
    for command in ["promote fraud 2".to_string(), format!("register fraud --unchecked {}", big.display())] {
        let output = with_own_mounts(&world, &format!("{read_only} \"$SCORER\" {command}"));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(error.contains("Read-only file system"), "{error}");
    }
    for command in ["list", "verify fraud", "audit fraud"] {
        let output = with_own_mounts(&world, &format!("{read_only} \"$SCORER\" {command}"));
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(world.state(), before);
}

#[test]
#[ignore = "needs Linux's user namespaces: mounts a disk of 256 KiB"]
fn a_disk_without_room_is_told_and_changes_nothing() {
    let world = World::new(2);
    promote(&world, "1");
    let script = r#"
        set -e
        full="$DRIFTLINE_SCORER_REGISTRY/../full"; mkdir "$full"; mount -t tmpfs -o size=256k tmpfs "$full"
        cp -r "$DRIFTLINE_SCORER_REGISTRY/." "$full"; export DRIFTLINE_SCORER_REGISTRY="$full"
        head -c 1000000 /dev/zero > "$full/fill" 2>/dev/null || true
        "$SCORER" promote fraud 2 && exit 9
        "$SCORER" list
        rm "$full/fill"
        "$SCORER" promote fraud 2
        "$SCORER" audit fraud | wc -l
    "#;
    let output = with_own_mounts(&world, script);
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    assert!(error.contains("No space left on device"), "{error}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("fraud: 1 in production, generation 1"), "{said}");
    assert_eq!(lines[1], "fraud: 2 in production, 1 before, generation 2");
    assert_eq!(lines[2].trim(), "2");
}
