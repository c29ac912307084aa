//! A TCP proxy between the processes and their servers that can cut, delay and drop data.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time,
};

/// The condition of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkCondition {
    Normal,
    /// Delays data by this time.
    Slow(Duration),
    /// Drops data without closing the connection.
    DropData,
    /// Forwards a part of the next data, then closes the connection. The number counts the cuts.
    Cut(u32),
}

/// A proxy in front of a server.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    condition: watch::Sender<NetworkCondition>,
    target_port: Arc<Mutex<u16>>,
}

impl Proxy {
    /// Starts a proxy to the local port `target_port`.
    pub(crate) async fn start(target_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (condition_sender, condition_receiver) = watch::channel(NetworkCondition::Normal);
        let target_port = Arc::new(Mutex::new(target_port));
        let current_target_port = Arc::clone(&target_port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let port = *current_target_port.lock().unwrap();
                tokio::spawn(forward(client, port, condition_receiver.clone()));
            }
        });
        Self {
            port,
            condition: condition_sender,
            target_port,
        }
    }

    pub(crate) fn set_condition(&self, condition: NetworkCondition) {
        self.condition.send_replace(condition);
    }

    /// Forwards new connections to `target_port`, and cuts the existing ones.
    pub(crate) fn set_target(&self, target_port: u16) {
        *self.target_port.lock().unwrap() = target_port;
        self.cut();
    }

    /// Cuts all connections in the middle of a frame.
    pub(crate) fn cut(&self) {
        self.condition.send_modify(|condition| {
            *condition = match condition {
                NetworkCondition::Cut(cut_count) => NetworkCondition::Cut(*cut_count + 1),
                _ => NetworkCondition::Cut(1),
            }
        });
    }
}

async fn forward(
    client: TcpStream,
    port: u16,
    condition_receiver: watch::Receiver<NetworkCondition>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    // When one direction ends, both are closed.
    tokio::select! {
        _ = copy_bytes(from_client, to_server, condition_receiver.clone()) => {}
        _ = copy_bytes(from_server, to_client, condition_receiver) => {}
    }
}

async fn copy_bytes(
    mut reading_half: OwnedReadHalf,
    mut writing_half: OwnedWriteHalf,
    mut condition_receiver: watch::Receiver<NetworkCondition>,
) -> io::Result<()> {
    // A cut does not apply to connections that are opened after it.
    condition_receiver.mark_unchanged();
    let mut is_cut = false;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let byte_count = tokio::select! {
            byte_count = reading_half.read(&mut buffer) => byte_count?,
            Ok(()) = condition_receiver.changed() => {
                is_cut = matches!(*condition_receiver.borrow_and_update(), NetworkCondition::Cut(_));
                if is_cut {
                    // An idle connection has no further data to wait for.
                    let next_read = time::timeout(Duration::from_millis(50), reading_half.read(&mut buffer));
                    match next_read.await {
                        Ok(byte_count) => byte_count?,
                        Err(_) => return Ok(()),
                    }
                } else {
                    continue;
                }
            }
        };
        if byte_count == 0 {
            return Ok(());
        }
        if is_cut {
            return writing_half.write_all(&buffer[..byte_count / 2]).await;
        }
        let current_condition = *condition_receiver.borrow();
        match current_condition {
            NetworkCondition::Normal | NetworkCondition::Cut(_) => {}
            NetworkCondition::Slow(delay) => time::sleep(delay).await,
            NetworkCondition::DropData => {
                condition_receiver
                    .wait_for(|condition| *condition != NetworkCondition::DropData)
                    .await
                    .map_err(io::Error::other)?;
                // Data was dropped, so the stream is corrupt and the connection is closed.
                return Ok(());
            }
        }
        writing_half.write_all(&buffer[..byte_count]).await?;
    }
}
