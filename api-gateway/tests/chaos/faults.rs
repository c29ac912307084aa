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
    AnySystem,
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
    pub(crate) fn needs_own_system(self) -> bool {
        self == Self::SmallDisk || self.broker_kind() != BrokerKind::SingleNode
    }

    /// Whether the fault applies to this kind of store.
    pub(crate) fn applies_to(self, kind: StoreKind) -> bool {
        match self {
            Self::AnySystem => true,
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
    AnySystem "worker killed before a commit" => |context| processes::crash_worker(context, "before_commit"),
    AnySystem "worker killed between commit and reply" => |context| processes::crash_worker(context, "after_commit"),
    AnySystem "worker killed between reply and acknowledgement" => |context| processes::crash_worker(context, "after_reply"),
    AnySystem "worker killed after publishing steps" => |context| processes::crash_worker(context, "after_step_sent"),
    AnySystem "worker killed after the provider's response" => |context| processes::crash_worker(context, "after_partner"),
    AnySystem "worker killed after storing a step's result" => |context| processes::crash_worker(context, "after_step_stored"),
    AnySystem "worker killed after publishing events" => |context| processes::crash_worker(context, "after_events_published"),
    AnySystem "worker killed at random times" => processes::kill_workers,
    AnySystem "worker suspended past the broker's acknowledgement timeout" => processes::suspend_worker,
    AnySystem "worker stopped with SIGTERM" => processes::stop_workers,
    AnySystem "gateway killed between request and reply" => processes::kill_gateways,
    AnySystem "gateway stopped with SIGTERM" => processes::stop_gateways,
    AnySystem "rolling restart of gateways and workers" => processes::restart_one_by_one,
    AnySystem "power cut: all processes killed at once" => processes::kill_all_processes,
    AnySystem "worker clocks jump by an hour" => processes::move_clocks,
    AnySystem "broker restarted" => broker::restart_broker,
    AnySystem "broker killed" => broker::kill_broker,
    AnySystem "broker killed and its data deleted" => broker::wipe_broker,
    AnySystem "broker memory alarm" => broker::raise_memory_alarm,
    AnySystem "broker closes all connections" => broker::close_connections,
    AnySystem "queues deleted" => broker::delete_queues,
    AnySystem "connections to the broker cut mid-frame" => |context| network::cut_connections(context, |stack| &stack.amqp_proxy),
    AnySystem "2 s of latency to the broker" => |context| network::slow_down(context, |stack| &stack.amqp_proxy),
    AnySystem "network to the broker drops all data" => |context| network::drop_traffic(context, |stack| &stack.amqp_proxy),
    Cluster "leader of a three-node cluster killed" => broker::kill_leader,
    Cluster "node of the request queue lost permanently" => broker::lose_request_node,
    QuorumCluster "each node of a cluster with a quorum request queue killed" => broker::kill_each_node,
    AnySystem "steps delivered several times at once" => messages::duplicate_steps,
    AnySystem "requests delivered twice" => messages::duplicate_requests,
    AnySystem "webhooks duplicated and reordered" => messages::duplicate_webhooks,
    AnySystem "invalid messages on the queues" => messages::publish_invalid_messages,
    Sqlite "database locked by another process" => database::lock_database_file,
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
