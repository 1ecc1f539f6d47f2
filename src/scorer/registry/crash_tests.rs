//! The process dies before each change of the disk in turn, and another one looks at what is there.

use std::collections::BTreeMap;

use super::beneath::crash;
use super::manifest::MODEL_FILE;
use super::register::Registration;
use super::signing::{SigningKey, Trust};
use super::*;

fn registration(number: u8) -> Registration {
    let files = [(MODEL_FILE, vec![number; 64]), ("transform.yaml", vec![number; 8])];
    Registration {
        model: "fraud".into(),
        files: files.map(|(name, bytes)| (name.to_string(), bytes)).into_iter().collect::<BTreeMap<_, _>>(),
        ..Registration::default()
    }
}

fn request(change: Change) -> ChangeRequest {
    let (by, reason) = ("test".into(), String::new());
    ChangeRequest { change, expected_generation: None, expected_production: None, by, reason, request_id: None }
}

fn promote(version: &str) -> ChangeRequest {
    request(Change::Promote { version: version.into(), force: true })
}

fn roll_back(production: &str) -> ChangeRequest {
    request(Change::Rollback { to: RollbackTo::LastGood, production: production.into() })
}

/// Versions 1 to 4, of which 1 and then 2 were promoted.
fn prepared() -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for number in 1..=4 {
        registry.register(&registration(number), None, 0).unwrap();
    }
    for version in ["1", "2"] {
        registry.change("fraud", &promote(version), 0).unwrap();
    }
    (folder, registry)
}

fn assert_audit_is_whole(registry: &Registry, at: &str) {
    let generations: Vec<u64> = registry.audit("fraud").unwrap().iter().map(|entry| entry.generation).collect();
    let wanted: Vec<u64> = (1..=registry.state("fraud").unwrap().generation).collect();
    assert_eq!(generations, wanted, "{at}");
}

fn assert_versions_are_whole(registry: &Registry, at: &str) -> Vec<String> {
    let versions = registry.versions("fraud").unwrap();
    for version in &versions {
        registry.open_version("fraud", version).unwrap_or_else(|error| panic!("{at}: {error}"));
    }
    versions
}

/// Does `work` with a crash before its first change of the disk, its second one, and so on, and each time looks with
/// `check`. Gives the number of crashes.
fn crash_everywhere(work: impl Fn(&Registry), check: impl Fn(&Registry, &str)) -> usize {
    for steps in 0..500 {
        let (folder, registry) = prepared();
        let ((), crashed) = crash::after(steps, || work(&registry));
        drop(registry);
        let registry = Registry::open(folder.path()).unwrap();
        check(&registry, &format!("a crash before change {steps} of the disk"));
        if !crashed {
            return steps;
        }
    }
    panic!("500 changes of the disk were not enough");
}

#[test]
fn a_crash_at_any_step_of_a_change_leaves_the_state_before_or_after() {
    for (request, after) in [(promote("3"), ("3", "2")), (roll_back("2"), ("1", "2"))] {
        let crashes = crash_everywhere(
            |registry| drop(registry.change("fraud", &request, 9)),
            |registry, at| {
                let state = registry.state("fraud").unwrap();
                let found = (state.production.as_deref().unwrap(), state.previous.as_deref().unwrap());
                assert!([("2", "1"), after].contains(&found), "{at}: {found:?}");
                assert_audit_is_whole(registry, at);
                registry.change("fraud", &promote("4"), 10).unwrap();
                assert_audit_is_whole(registry, at);
                assert_eq!(assert_versions_are_whole(registry, at).len(), 4);
            },
        );
        assert!(crashes >= 5, "only {crashes} changes of the disk");
    }
}

#[test]
fn a_crash_twice_in_a_row_loses_no_entry_of_the_audit() {
    let (_folder, registry) = prepared();
    for (first, second) in (0..11).flat_map(|first| (0..11).map(move |second| (first, second))) {
        drop(crash::after(first, || registry.change("fraud", &promote("3"), 9)));
        drop(crash::after(second, || registry.change("fraud", &promote("4"), 9)));
        assert_audit_is_whole(&registry, &format!("crashes before changes {first} and {second}"));
        registry.change("fraud", &promote("1"), 10).unwrap();
        assert_audit_is_whole(&registry, &format!("after crashes before changes {first} and {second}"));
    }
}

#[test]
fn a_crash_at_any_step_of_a_registration_leaves_whole_versions_only() {
    let crashes = crash_everywhere(
        |registry| drop(registry.register(&registration(9), None, 0)),
        |registry, at| {
            let versions = assert_versions_are_whole(registry, at);
            assert!([4, 5].contains(&versions.len()), "{at}: {versions:?}");
            let again = registry.register(&registration(9), None, 0).unwrap();
            assert_eq!(again.manifest.version, "5", "{at}");
            assert_eq!(assert_versions_are_whole(registry, at).len(), 5);
        },
    );
    assert!(crashes >= 10, "only {crashes} changes of the disk");
}

#[test]
fn a_crash_at_any_step_of_signing_leaves_the_old_or_the_new_signature() {
    let (key, _) = SigningKey::generate().unwrap();
    let crashes = crash_everywhere(
        |registry| drop(registry.sign("fraud", "3", &key)),
        |registry, at| {
            assert_versions_are_whole(registry, at);
            registry.sign("fraud", "3", &key).unwrap_or_else(|error| panic!("{at}: {error}"));
        },
    );
    assert!(crashes >= 5, "only {crashes} changes of the disk");
    let (folder, registry) = prepared();
    registry.sign("fraud", "3", &key).unwrap();
    let strict = Registry::open(folder.path()).unwrap().with_trust(Trust::new(true, [key.public()]));
    assert_eq!(strict.open_version("fraud", "3").unwrap().signed_by, Some(key.public().id()));
}

#[test]
fn a_crash_at_any_step_of_a_removal_leaves_whole_versions_only() {
    let crashes = crash_everywhere(
        |registry| drop(registry.collect("fraud", 1, false)),
        |registry, at| {
            let versions = assert_versions_are_whole(registry, at);
            assert!([3, 4].contains(&versions.len()), "{at}: {versions:?}");
            registry.collect("fraud", 1, false).unwrap();
            assert_eq!(assert_versions_are_whole(registry, at), ["1", "2", "4"]);
        },
    );
    assert!(crashes >= 5, "only {crashes} changes of the disk");
}
