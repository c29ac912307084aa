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
    stack::{BrokerKind, Kind, Stack},
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
    pub(crate) run: InjectFault,
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
    pub(crate) fn applies_to(self, kind: Kind) -> bool {
        match self {
            Self::Anything => true,
            Self::Sqlite | Self::SmallDisk => kind == Kind::Sqlite,
            Self::Postgres | Self::Cluster | Self::QuorumCluster => kind == Kind::Postgres,
        }
    }
}

macro_rules! faults {
    ($($target:ident $name:literal => $run:expr,)+) => {
        /// All faults.
        pub(crate) const FAULTS: &[Fault] = &[$(Fault {
            name: $name,
            target: FaultTarget::$target,
            run: |context| Box::pin($run(context)),
        }),+];
    };
}

faults! {
    Anything "worker killed before a commit" => |s| processes::worker_dies(s, "before_commit"),
    Anything "worker killed between commit and reply" => |s| processes::worker_dies(s, "after_commit"),
    Anything "worker killed between reply and acknowledgement" => |s| processes::worker_dies(s, "after_reply"),
    Anything "worker killed after publishing steps" => |s| processes::worker_dies(s, "after_step_sent"),
    Anything "worker killed after the provider's response" => |s| processes::worker_dies(s, "after_partner"),
    Anything "worker killed after storing a step's result" => |s| processes::worker_dies(s, "after_step_stored"),
    Anything "worker killed after publishing events" => |s| processes::worker_dies(s, "after_events_published"),
    Anything "worker killed at random times" => processes::workers_killed,
    Anything "worker suspended past the broker's acknowledgement timeout" => processes::worker_stalls,
    Anything "worker stopped with SIGTERM" => processes::workers_stopped,
    Anything "gateway killed between request and reply" => processes::gateways_killed,
    Anything "gateway stopped with SIGTERM" => processes::gateways_stopped,
    Anything "rolling restart of gateways and workers" => processes::rolling_restart,
    Anything "power cut: all processes killed at once" => processes::power_cut,
    Anything "worker clocks jump by an hour" => processes::clock_jumps,
    Anything "broker restarted" => broker::restart_broker,
    Anything "broker killed" => broker::kill_broker,
    Anything "broker killed and its data deleted" => broker::wipe_broker,
    Anything "broker memory alarm" => broker::short_of_memory,
    Anything "broker closes all connections" => broker::closes_connections,
    Anything "queues deleted" => broker::queues_deleted,
    Anything "connections to the broker cut mid-frame" => |s| network::cut_connections(s, |stack| &stack.amqp_proxy),
    Anything "2 s of latency to the broker" => |s| network::slow_down(s, |stack| &stack.amqp_proxy),
    Anything "network to the broker drops all data" => |s| network::drop_traffic(s, |stack| &stack.amqp_proxy),
    Cluster "leader of a three-node cluster killed" => broker::leader_killed,
    Cluster "node of the request queue lost permanently" => broker::request_node_lost,
    QuorumCluster "each node of a cluster with a quorum request queue killed" => broker::each_node_killed,
    Anything "steps delivered several times at once" => messages::duplicated_steps,
    Anything "requests delivered twice" => messages::duplicated_requests,
    Anything "webhooks duplicated and reordered" => messages::webhooks,
    Anything "invalid messages on the queues" => messages::garbage,
    Sqlite "database locked by another process" => database::locked_file,
    SmallDisk "disk full" => database::disk_full,
    SmallDisk "disk read-only" => database::disk_read_only,
    Postgres "database killed" => database::kill_postgres,
    Postgres "database fails over to a standby" => database::fails_over,
    Postgres "database closes all connections" => database::ends_connections,
    Postgres "connections to the database cut mid-frame" => |s| network::cut_connections(s, |stack| &stack.database),
    Postgres "2 s of latency to the database" => |s| network::slow_down(s, |stack| &stack.database),
    Postgres "network to the database drops all data" => |s| network::drop_traffic(s, |stack| &stack.database),
    Postgres "database read-only" => database::read_only,
    Postgres "tables locked" => database::locked_tables,
    Postgres "slow commits" => database::slow_commits,
}
