//! Consumer groups: members, generations, range assignment, committed and pending offsets.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::partition::TransactionNumber;
use crate::log::{ConsumerEvent, TopicPartition};

/// Number of a member, unique in one log; members are served in the order in which they joined.
pub(super) type MemberNumber = u64;

#[derive(Default)]
pub(super) struct Group {
    pub generation: i32,
    members: BTreeMap<MemberNumber, Member>,
    committed: HashMap<TopicPartition, i64>,
    /// Transactions that have sent an offset of this partition and are still open.
    pending: HashMap<TopicPartition, HashSet<TransactionNumber>>,
}

struct Member {
    topics: Vec<String>,
    assignment: Vec<TopicPartition>,
    /// Not yet told to the member.
    events: Vec<ConsumerEvent>,
}

impl Group {
    pub fn join(&mut self, member: MemberNumber, topics: Vec<String>) {
        self.members.insert(member, Member { topics, assignment: Vec::new(), events: Vec::new() });
    }

    /// True if it was a member.
    pub fn leave(&mut self, member: MemberNumber) -> bool {
        self.members.remove(&member).is_some()
    }

    pub fn has_member(&self, member: MemberNumber) -> bool {
        self.members.contains_key(&member)
    }

    pub fn subscribes_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.topics.iter().any(|subscribed| subscribed == topic))
    }

    /// A new generation. Every member loses everything and is given its share anew (the eager protocol), with
    /// Kafka's range assignment: per topic, consecutive partitions to members in order.
    pub fn rebalance(&mut self, partition_count: impl Fn(&str) -> Option<i32>) {
        self.generation += 1;
        let topics: HashSet<&String> = self.members.values().flat_map(|member| &member.topics).collect();
        let mut topics: Vec<String> = topics.into_iter().cloned().collect();
        topics.sort();
        let mut shares: HashMap<MemberNumber, Vec<TopicPartition>> = HashMap::new();
        for topic in topics {
            let subscribers: Vec<MemberNumber> = self
                .members
                .iter()
                .filter(|(_, member)| member.topics.contains(&topic))
                .map(|(number, _)| *number)
                .collect();
            let partitions = partition_count(&topic).unwrap_or(0);
            let (each, one_more) = (partitions / subscribers.len() as i32, partitions % subscribers.len() as i32);
            let mut next = 0;
            for (index, number) in subscribers.iter().enumerate() {
                let share = each + i32::from((index as i32) < one_more);
                let partitions = (next..next + share).map(|partition| TopicPartition::new(&topic, partition));
                shares.entry(*number).or_default().extend(partitions);
                next += share;
            }
        }
        for (number, member) in &mut self.members {
            member.reassign(shares.remove(number).unwrap_or_default());
        }
    }

    /// What the member has not been told yet.
    pub fn take_events(&mut self, member: MemberNumber) -> Vec<ConsumerEvent> {
        self.members.get_mut(&member).map(|member| std::mem::take(&mut member.events)).unwrap_or_default()
    }

    pub fn has_events(&self, member: MemberNumber) -> bool {
        self.members.get(&member).is_some_and(|member| !member.events.is_empty())
    }

    pub fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.committed.get(partition).copied()
    }

    /// True while an open transaction may still move the committed offset.
    pub fn is_unstable(&self, partition: &TopicPartition) -> bool {
        self.pending.contains_key(partition)
    }

    pub fn add_pending(&mut self, partition: &TopicPartition, transaction: TransactionNumber) {
        self.pending.entry(partition.clone()).or_default().insert(transaction);
    }

    /// Ends a pending offset; `offset` is there if its transaction was committed.
    pub fn finish_pending(
        &mut self,
        partition: &TopicPartition,
        transaction: TransactionNumber,
        committed: Option<i64>,
    ) {
        if let Some(transactions) = self.pending.get_mut(partition) {
            transactions.remove(&transaction);
            if transactions.is_empty() {
                self.pending.remove(partition);
            }
        }
        if let Some(offset) = committed {
            self.committed.insert(partition.clone(), offset);
        }
    }
}

impl Member {
    fn reassign(&mut self, share: Vec<TopicPartition>) {
        let untold = matches!(self.events.last(), Some(ConsumerEvent::Assigned(_)));
        if untold {
            // Given and taken away again before the member looked: it never hears of it.
            self.events.pop();
        } else if !self.assignment.is_empty() {
            self.events.push(ConsumerEvent::Revoked(self.assignment.clone()));
        }
        self.assignment.clone_from(&share);
        self.events.push(ConsumerEvent::Assigned(share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(group: &mut Group, members: &[MemberNumber]) -> Vec<Vec<String>> {
        let assigned = |events: Vec<ConsumerEvent>| match events.last() {
            Some(ConsumerEvent::Assigned(share)) => share.iter().map(TopicPartition::to_string).collect(),
            other => panic!("expected an assignment, got {other:?}"),
        };
        members.iter().map(|member| assigned(group.take_events(*member))).collect()
    }

    #[test]
    fn partitions_are_dealt_in_ranges_topic_by_topic() {
        let mut group = Group::default();
        for member in 1..=3 {
            group.join(member, vec!["a".into(), "b".into()]);
        }
        group.rebalance(|topic| Some(if topic == "a" { 4 } else { 2 }));
        let expected = [vec!["a[0]", "a[1]", "b[0]"], vec!["a[2]", "b[1]"], vec!["a[3]"]];
        assert_eq!(shares(&mut group, &[1, 2, 3]), expected);
    }

    #[test]
    fn a_member_that_did_not_look_hears_one_revoke_and_the_last_assignment() {
        let mut group = Group::default();
        group.join(1, vec!["a".into()]);
        group.rebalance(|_| Some(2));
        group.take_events(1);
        for member in 2..=3 {
            group.join(member, vec!["a".into()]);
            group.rebalance(|_| Some(2));
        }
        let both: Vec<_> = (0..2).map(|partition| TopicPartition::new("a", partition)).collect();
        let expected = vec![ConsumerEvent::Revoked(both.clone()), ConsumerEvent::Assigned(both[..1].to_vec())];
        assert_eq!(group.take_events(1), expected);
    }
}
