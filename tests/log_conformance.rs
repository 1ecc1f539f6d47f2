//! What the rest of Driftline relies on in a log, checked on every backend by one suite.
//!
//! `suite` holds the promises as functions over `Cluster`; the macro at the end makes a test of each, on the
//! embedded log under plain `cargo test`, and on a real broker under
//! `DRIFTLINE_TEST_KAFKA=host:port cargo test --test log_conformance -- --ignored`
//! (`scripts/kafka.sh start DIR` starts one). To add a backend: implement `Cluster` and add a line to the macro.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "log_conformance/cluster.rs"]
mod cluster;
#[path = "log_conformance/suite.rs"]
mod suite;
#[path = "log_conformance/worker.rs"]
mod worker;

macro_rules! conformance {
    ($($promise:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $promise() {
                crate::suite::$promise(&crate::cluster::EmbeddedCluster::new());
            })*
        }
        mod kafka {
            $(#[test]
            #[ignore = "needs a Kafka broker: set DRIFTLINE_TEST_KAFKA=host:port"]
            fn $promise() {
                crate::suite::$promise(&crate::cluster::KafkaCluster::from_environment());
            })*
        }
    };
}

conformance! {
    a_created_topic_is_found_and_creating_it_again_changes_nothing,
    appended_records_are_read_in_order,
    an_aborted_transaction_is_invisible_to_read_committed,
    an_open_transaction_blocks_read_committed_until_it_ends,
    the_high_watermark_counts_open_transactions,
    a_fenced_producer_cannot_commit,
    an_abort_without_a_transaction_is_harmless,
    an_abort_right_after_a_send_leaves_the_producer_usable,
    a_transaction_that_was_refused_can_be_aborted_and_followed_by_another,
    offsets_move_with_the_transaction,
    offsets_of_an_aborted_transaction_do_not_move,
    a_successor_waits_for_its_predecessors_pending_offsets,
    a_member_with_a_stale_generation_cannot_commit,
    a_rebalance_loses_and_duplicates_nothing,
    the_end_is_found_past_a_control_record,
    a_seek_moves_the_next_record_and_nothing_read_ahead_is_shown,
    a_slow_reader_misses_nothing_and_does_not_hold_up_its_group,
    an_assignment_by_hand_starts_where_it_says,
    a_group_that_starts_at_the_latest_skips_what_was_there,
    a_key_goes_to_the_partition_that_other_clients_choose,
    tombstones_empty_values_and_headers_pass,
    a_record_of_nine_hundred_kilobytes_passes,
}

/// Not a promise: the body of a worker process that the rebalance test starts and kills.
#[test]
#[ignore = "started as a process of its own by kafka::a_rebalance_loses_and_duplicates_nothing"]
fn worker_process() {
    worker::run_if_asked();
}
