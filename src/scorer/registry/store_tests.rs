use std::collections::BTreeMap;

use super::manifest::MODEL_FILE;
use super::register::Registration;
use super::signing::{SigningKey, Trust};
use super::*;

fn registration(bytes: &[u8]) -> Registration {
    Registration {
        model: "fraud".into(),
        files: BTreeMap::from([(MODEL_FILE.to_string(), bytes.to_vec())]),
        ..Registration::default()
    }
}

fn with_versions(count: u8) -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for number in 1..=count {
        registry.register(&registration(&[number; 64]), None, 0).unwrap();
    }
    (folder, registry)
}

fn request(change: Change) -> ChangeRequest {
    ChangeRequest {
        change,
        expected_generation: None,
        expected_production: None,
        by: "test".into(),
        reason: "why not".into(),
        request_id: None,
    }
}

fn promote(version: &str) -> ChangeRequest {
    request(Change::Promote { version: version.into(), force: false })
}

fn roll_back(production: &str) -> ChangeRequest {
    request(Change::Rollback { to: RollbackTo::LastGood, production: production.into() })
}

#[test]
fn a_version_is_read_back_as_it_was_registered_and_never_changes() {
    let (_folder, registry) = with_versions(2);
    assert_eq!(registry.models().unwrap(), ["fraud"]);
    assert_eq!(registry.versions("fraud").unwrap(), ["1", "2"]);
    let version = registry.open_version("fraud", "2").unwrap();
    assert_eq!(version.model.as_ref(), [2; 64]);
    assert_eq!(version.signed_by, None);
    let again = registry.register(&registration(&[1; 64]), None, 9).unwrap();
    assert!(again.was_there);
    assert_eq!((again.manifest.version.as_str(), again.manifest.created_at_ms), ("1", 0));
    let other = Registration { version: Some("1".into()), ..registration(&[9; 64]) };
    let refused = registry.register(&other, None, 9).unwrap_err();
    assert!(matches!(&refused, RegistryError::Conflict(reason) if reason.contains("another content")), "{refused}");
    assert_eq!(registry.versions("fraud").unwrap(), ["1", "2"]);
}

#[test]
fn one_retraining_run_is_one_version() {
    let (_folder, registry) = with_versions(1);
    let mut answer = registration(&[7; 64]);
    answer.lineage.retraining_run = Some("run-1".into());
    assert_eq!(registry.register(&answer, None, 0).unwrap().manifest.version, "2");
    assert!(registry.register(&answer, None, 5).unwrap().was_there, "the trainer was started twice");
    answer.files.insert(MODEL_FILE.into(), vec![8; 64]);
    let refused = registry.register(&answer, None, 0).unwrap_err();
    assert!(refused.to_string().contains("run-1 is answered by fraud version 2 already"), "{refused}");
}

#[test]
fn promote_and_roll_back_keep_the_version_before() {
    let (_folder, registry) = with_versions(3);
    for (version, now_ms) in [("2", 10), ("3", 20)] {
        registry.change("fraud", &promote(version), now_ms).unwrap();
    }
    let after = registry.change("fraud", &roll_back("3"), 30).unwrap().state;
    assert_eq!((after.production.as_deref(), after.previous.as_deref()), (Some("2"), Some("3")));
    assert_eq!((after.generation, after.promoted_at_ms), (3, Some(30)));
    assert_eq!(after.rejected, ["3"]);
    assert_eq!(registry.state("fraud").unwrap(), after);
    let refused = registry.change("fraud", &promote("3"), 40).unwrap_err();
    assert!(refused.to_string().contains("only with force"), "{refused}");
    let refused = registry.change("fraud", &roll_back("2"), 40).unwrap_err();
    assert!(refused.to_string().contains("version 3 was rolled back itself"), "{refused}");
    let forced = request(Change::Promote { version: "3".into(), force: true });
    assert_eq!(registry.change("fraud", &forced, 50).unwrap().state.rejected, [""; 0]);
    let audit = registry.audit("fraud").unwrap();
    assert_eq!(audit.iter().map(|entry| entry.generation).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(audit[2].from.production.as_deref(), Some("3"));
    assert_eq!(audit[2].to.production.as_deref(), Some("2"));
}

#[test]
fn an_alert_about_an_old_version_rolls_nothing_back() {
    let (_folder, registry) = with_versions(3);
    for version in ["1", "2", "3"] {
        registry.change("fraud", &promote(version), 0).unwrap();
    }
    let before = registry.state("fraud").unwrap();
    let refused = registry.change("fraud", &roll_back("2"), 1).unwrap_err();
    assert!(matches!(refused, RegistryError::Conflict(_)), "{refused}");
    let late = ChangeRequest { expected_generation: Some(2), ..roll_back("3") };
    let refused = registry.change("fraud", &late, 1).unwrap_err();
    assert!(matches!(refused, RegistryError::Conflict(_)), "{refused}");
    assert_eq!(registry.state("fraud").unwrap(), before);
    assert_eq!(registry.audit("fraud").unwrap().len(), 3);
}

#[test]
fn a_request_id_changes_something_once_and_one_thing_only() {
    let (_folder, registry) = with_versions(3);
    for version in ["1", "2", "3"] {
        registry.change("fraud", &promote(version), 0).unwrap();
    }
    let keyed = |production: &str| ChangeRequest {
        request_id: Some("driftline-1".into()),
        expected_generation: Some(3),
        ..roll_back(production)
    };
    assert_eq!(registry.change("fraud", &keyed("3"), 1).unwrap().done_before, None);
    let again = registry.change("fraud", &keyed("3"), 2).unwrap();
    assert_eq!(again.done_before.map(|entry| entry.generation), Some(4));
    assert_eq!(again.state.production.as_deref(), Some("2"));
    let refused = registry.change("fraud", &keyed("2"), 3).unwrap_err();
    assert!(matches!(refused, RegistryError::Conflict(_)), "{refused}");
    assert_eq!(registry.state("fraud").unwrap().generation, 4);
}

#[test]
fn removal_keeps_what_serves_and_the_newest() {
    let (_folder, registry) = with_versions(9);
    for version in ["1", "3"] {
        registry.change("fraud", &promote(version), 0).unwrap();
    }
    let canary = Change::SetCanary { version: "4".into(), buckets: 100, salt: None, step: None, force: false };
    registry.change("fraud", &request(canary), 0).unwrap();
    registry.change("fraud", &request(Change::SetShadow { version: "5".into() }), 0).unwrap();
    assert_eq!(registry.collect("fraud", 2, true).unwrap(), ["2", "6", "7"]);
    assert_eq!(registry.versions("fraud").unwrap().len(), 9, "a dry run removes nothing");
    assert_eq!(registry.collect("fraud", 2, false).unwrap(), ["2", "6", "7"]);
    assert_eq!(registry.versions("fraud").unwrap(), ["1", "3", "4", "5", "8", "9"]);
    assert_eq!(registry.register(&registration(&[10; 64]), None, 0).unwrap().manifest.version, "10");
}

#[test]
fn only_what_a_trusted_key_signed_is_opened_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (old, _) = SigningKey::generate().unwrap();
    let (new, pem) = SigningKey::generate().unwrap();
    let (stranger, _) = SigningKey::generate().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    registry.register(&registration(&[1; 8]), Some(&old), 0).unwrap();
    registry.register(&registration(&[2; 8]), Some(&SigningKey::from_pem(&pem).unwrap()), 0).unwrap();
    registry.register(&registration(&[3; 8]), Some(&stranger), 0).unwrap();
    registry.register(&registration(&[4; 8]), None, 0).unwrap();
    let registry = registry.with_trust(Trust::new(true, [old.public(), new.public()]));
    assert_eq!(registry.open_version("fraud", "1").unwrap().signed_by, Some(old.public().id()));
    assert_eq!(registry.open_version("fraud", "2").unwrap().signed_by, Some(new.public().id()));
    for (version, reason) in [("3", "is not trusted"), ("4", "not signed")] {
        let refused = registry.open_version("fraud", version).unwrap_err();
        assert!(matches!(&refused, RegistryError::Refused(text) if text.contains(reason)), "{refused}");
        assert!(registry.change("fraud", &promote(version), 0).is_err());
    }
    assert_eq!(registry.state("fraud").unwrap().generation, 0);
}
