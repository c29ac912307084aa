//! One attempt to send a message over SMTP (RFC 5321), and the meaning of the server's response.
//!
//! A permanent refusal (5xx) of the recipient or of the message is a bounce. One of the connection, of the
//! authentication or of the sender is a fault of the configuration, and worth another attempt once it is
//! corrected, as is every temporary one (4xx) and the request to authenticate (530).

use std::{error::Error as _, time::Duration};

use lettre::{
    Address, Message,
    transport::smtp::{
        Error,
        authentication::Mechanism,
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time;

use super::settings::{Encryption, Server};

/// Timeout for closing the connection after the message was accepted.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Response code of servers that send only for authenticated clients (RFC 4954).
const AUTHENTICATION_REQUIRED: u16 = 530;

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SendError {
    /// The server refused the recipient or the message for good.
    Bounced(String),
    /// A later attempt may succeed.
    Temporary(String),
    /// There was no response to the message: the server may have accepted it.
    Unconfirmed(String),
}

/// Sends messages to a mail server.
pub(super) struct SmtpClient {
    server: Server,
    tls: TlsParameters,
    client_name: ClientId,
    timeout: Duration,
}

impl SmtpClient {
    /// Creates a client that trusts the operating system's certificate authorities.
    ///
    /// # Errors
    /// When the host name is invalid, or TLS can't be set up.
    pub(super) fn new(server: Server, timeout: Duration) -> anyhow::Result<Self> {
        let tls = TlsParameters::new_rustls(server.host.clone());
        let tls = tls.map_err(|error| anyhow::anyhow!("SMTP_URL: {}", describe(&error)))?;
        Ok(Self {
            server,
            tls,
            client_name: client_name(),
            timeout,
        })
    }

    /// Sends `message` to `recipient`.
    ///
    /// # Errors
    /// [`SendError`].
    pub(super) async fn send(
        &self,
        sender: &Address,
        recipient: &Address,
        message: &Message,
    ) -> Result<(), SendError> {
        let mut is_transferred = false;
        let attempt = self.try_send(sender, recipient, message, &mut is_transferred);
        let Ok(send_result) = time::timeout(self.timeout, attempt).await else {
            let reason = format!("no response within {} s", self.timeout.as_secs());
            return Err(if is_transferred {
                SendError::Unconfirmed(reason)
            } else {
                SendError::Temporary(reason)
            });
        };
        // The message is accepted, whatever becomes of the connection.
        let mut connection = send_result?;
        let _ = time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(())
    }

    /// Sends `message` and returns the connection. Sets `is_transferred` before the message is transferred.
    async fn try_send(
        &self,
        sender: &Address,
        recipient: &Address,
        message: &Message,
        is_transferred: &mut bool,
    ) -> Result<AsyncSmtpConnection, SendError> {
        let mut connection = self.connect().await.map_err(temporary_error)?;
        let message_bytes = message.formatted();
        let mut mail_parameters = Vec::new();
        let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if !(is_ascii(sender) && is_ascii(recipient)) {
            if !supports(&connection, Extension::SmtpUtfEight) {
                let reason =
                    "the mail server does not support addresses with other letters than ASCII";
                return Err(SendError::Bounced(reason.to_owned()));
            }
            mail_parameters.push(MailParameter::SmtpUtfEight);
        }
        if !message_bytes.is_ascii() {
            mail_parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let mail_command = Mail::new(Some(sender.clone()), mail_parameters);
        connection
            .command(mail_command)
            .await
            .map_err(temporary_error)?;
        let rcpt_command = Rcpt::new(recipient.clone(), Vec::new());
        connection
            .command(rcpt_command)
            .await
            .map_err(refusal_error)?;
        connection.command(Data).await.map_err(refusal_error)?;
        *is_transferred = true;
        match connection.message(&message_bytes).await {
            Ok(_) => Ok(connection),
            Err(error) if error.status().is_none() => Err(SendError::Unconfirmed(describe(&error))),
            Err(error) => Err(refusal_error(error)),
        }
    }

    /// Connects, encrypts the connection and authenticates.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let Server {
            host,
            port,
            encryption,
            credentials,
        } = &self.server;
        let implicit_tls = (*encryption == Encryption::Implicit).then(|| self.tls.clone());
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (host.as_str(), *port),
            Some(self.timeout),
            &self.client_name,
            implicit_tls,
            None,
        )
        .await?;
        let starts_tls = match encryption {
            Encryption::Implicit => false,
            Encryption::StartTls => true,
            Encryption::Opportunistic => connection.can_starttls(),
        };
        if starts_tls {
            connection
                .starttls(self.tls.clone(), &self.client_name)
                .await?;
        }
        if let Some(credentials) = credentials {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&mechanisms, credentials).await?;
        }
        Ok(connection)
    }
}

fn supports(connection: &AsyncSmtpConnection, extension: Extension) -> bool {
    connection.server_info().supports_feature(extension)
}

fn temporary_error(error: Error) -> SendError {
    SendError::Temporary(describe(&error))
}

/// The error of a command about the recipient or the message.
fn refusal_error(error: Error) -> SendError {
    let needs_authentication = error.status().map(u16::from) == Some(AUTHENTICATION_REQUIRED);
    if error.is_permanent() && !needs_authentication {
        SendError::Bounced(describe(&error))
    } else {
        SendError::Temporary(describe(&error))
    }
}

/// The error with its causes, in one line.
fn describe(error: &Error) -> String {
    let mut error_text = error.to_string();
    let mut cause = error.source();
    while let Some(source_error) = cause {
        let cause_text = source_error.to_string();
        if !error_text.contains(&cause_text) {
            error_text = format!("{error_text}: {cause_text}");
        }
        cause = source_error.source();
    }
    error_text.replace(['\r', '\n'], " ")
}

/// The name in `EHLO`: that of this host, if it is a domain name.
fn client_name() -> ClientId {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let is_host_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !host.is_empty() && host.chars().all(is_host_character) {
        ClientId::Domain(host.to_owned())
    } else {
        ClientId::default()
    }
}
