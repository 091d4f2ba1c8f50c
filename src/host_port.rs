//! Where to connect, by name or address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::ConfigError;

/// A host name or address and a port, written `greeter.local:50051`, `10.0.0.1:50051` or `[::1]:50051`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostPort {
    host: Arc<str>,
    port: u16,
}

impl HostPort {
    /// The host: a name, an IPv4 address, or an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, unless the host is a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HostPort {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::new("endpoint", format_args!("`{text}`"), ALLOWED);
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if is_host(host) => host,
            _ => return Err(wrong()),
        };
        Ok(Self { host: host.into(), port })
    }
}

const ALLOWED: &str = "host:port, such as greeter.local:50051, 127.0.0.1:8080 or [::1]:8080";

// RFC 1123, 2.1, and the underscore that service names in DNS have.
fn is_host(host: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && host.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(letter))
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["greeter.local:50051", "127.0.0.1:8080", "[::1]:8080", "_grpc.x:1"] {
            assert_eq!(text.parse::<HostPort>().map(|host| host.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_names_no_host_or_port_is_refused() {
        for text in ["", "a", ":1", "a:", "a:0", "a:65536", "a b:1", "::1:80", "[a]:1", "a..b:1"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
