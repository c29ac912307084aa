//! Fault injection. Each fault is a function that disturbs the system under load, restores it, and returns how
//! often it did so.

mod broker;
mod database;
mod messages;
mod network;
mod processes;

use std::{future::Future, pin::Pin};

use crate::{
    load::{Load, Random},
    stack::{BrokerKind, Stack, StoreKind},
};

/// The input of a fault: exclusive access to the system, and the progress of the load.
pub(crate) struct FaultContext<'a> {
    pub(crate) stack: &'a mut Stack,
    pub(crate) load: &'a Load,
    pub(crate) random: &'a mut Random,
}

type InjectFault = for<'a> fn(FaultContext<'a>) -> Pin<Box<dyn Future<Output = usize> + 'a>>;

/// An injected fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) target: FaultTarget,
    pub(crate) inject: InjectFault,
}

/// The systems that a fault applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultTarget {
    Anything,
    Sqlite,
    /// A database on a small file system of its own, which requires root.
    SmallDisk,
    Postgres,
    Cluster,
    /// A cluster with a quorum request queue.
    QuorumCluster,
}

impl FaultTarget {
    /// The broker that the fault needs.
    pub(crate) fn broker_kind(self) -> BrokerKind {
        match self {
            Self::Cluster => BrokerKind::Cluster,
            Self::QuorumCluster => BrokerKind::ClusterWithQuorumRequests,
            _ => BrokerKind::SingleNode,
        }
    }

    /// Whether the fault needs a system of its own.
    pub(crate) fn is_separate(self) -> bool {
        self == Self::SmallDisk || self.broker_kind() != BrokerKind::SingleNode
    }

    /// Whether the fault applies to this kind of store.
    pub(crate) fn applies_to(self, kind: StoreKind) -> bool {
        match self {
            Self::Anything => true,
            Self::Sqlite | Self::SmallDisk => kind == StoreKind::Sqlite,
            Self::Postgres | Self::Cluster | Self::QuorumCluster => kind == StoreKind::Postgres,
        }
    }
}

macro_rules! faults {
    ($($target:ident $name:literal => $inject:expr,)+) => {
        /// All faults.
        pub(crate) const FAULTS: &[Fault] = &[$(Fault {
            name: $name,
            target: FaultTarget::$target,
            inject: |context| Box::pin($inject(context)),
        }),+];
    };
}

faults! {
    Anything "worker killed before a commit" => |context| processes::crash_worker(context, "before_commit"),
    Anything "worker killed between commit and reply" => |context| processes::crash_worker(context, "after_commit"),
    Anything "worker killed between reply and acknowledgement" => |context| processes::crash_worker(context, "after_reply"),
    Anything "worker killed after publishing steps" => |context| processes::crash_worker(context, "after_step_sent"),
    Anything "worker killed after the provider's response" => |context| processes::crash_worker(context, "after_partner"),
    Anything "worker killed after storing a step's result" => |context| processes::crash_worker(context, "after_step_stored"),
    Anything "worker killed after publishing events" => |context| processes::crash_worker(context, "after_events_published"),
    Anything "worker killed at random times" => processes::kill_workers,
    Anything "worker suspended past the broker's acknowledgement timeout" => processes::suspend_worker,
    Anything "worker stopped with SIGTERM" => processes::stop_workers,
    Anything "gateway killed between request and reply" => processes::kill_gateways,
    Anything "gateway stopped with SIGTERM" => processes::stop_gateways,
    Anything "rolling restart of gateways and workers" => processes::restart_one_by_one,
    Anything "power cut: all processes killed at once" => processes::kill_all_processes,
    Anything "worker clocks jump by an hour" => processes::move_clocks,
    Anything "broker restarted" => broker::restart_broker,
    Anything "broker killed" => broker::kill_broker,
    Anything "broker killed and its data deleted" => broker::wipe_broker,
    Anything "broker memory alarm" => broker::raise_memory_alarm,
    Anything "broker closes all connections" => broker::close_connections,
    Anything "queues deleted" => broker::delete_queues,
    Anything "connections to the broker cut mid-frame" => |context| network::cut_connections(context, |stack| &stack.amqp_proxy),
    Anything "2 s of latency to the broker" => |context| network::slow_down(context, |stack| &stack.amqp_proxy),
    Anything "network to the broker drops all data" => |context| network::drop_traffic(context, |stack| &stack.amqp_proxy),
    Cluster "leader of a three-node cluster killed" => broker::kill_leader,
    Cluster "node of the request queue lost permanently" => broker::lose_request_node,
    QuorumCluster "each node of a cluster with a quorum request queue killed" => broker::kill_each_node,
    Anything "steps delivered several times at once" => messages::duplicate_steps,
    Anything "requests delivered twice" => messages::duplicate_requests,
    Anything "webhooks duplicated and reordered" => messages::duplicate_webhooks,
    Anything "invalid messages on the queues" => messages::publish_invalid_messages,
    Sqlite "database locked by another process" => database::lock_file,
    SmallDisk "disk full" => database::fill_disk,
    SmallDisk "disk read-only" => database::make_disk_read_only,
    Postgres "database killed" => database::kill_postgres,
    Postgres "database fails over to a standby" => database::fail_over,
    Postgres "database closes all connections" => database::close_connections,
    Postgres "connections to the database cut mid-frame" => |context| network::cut_connections(context, |stack| &stack.database_proxy),
    Postgres "2 s of latency to the database" => |context| network::slow_down(context, |stack| &stack.database_proxy),
    Postgres "network to the database drops all data" => |context| network::drop_traffic(context, |stack| &stack.database_proxy),
    Postgres "database read-only" => database::make_database_read_only,
    Postgres "tables locked" => database::lock_tables,
    Postgres "slow commits" => database::slow_down_commits,
}
