//! Whose request it is: the peer's address, or what a trusted proxy says, and never what anyone else says.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The address of the client. Proxies append to X-Forwarded-For, so the list is read from its end for as long as those who
/// wrote it are trusted.
pub(super) fn client_address(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer.ip().to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !is_trusted(client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(address("192.0.2.1:1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(address("10.0.0.1:1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1:1", &["198.51.100.1, 203.0.113.9, 10.0.0.7"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1:1", &["198.51.100.1", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1:1", &["nonsense"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1:1", &[]), "10.0.0.1");
        assert_eq!(address("[::ffff:10.0.0.1]:1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("[::1]:1", &["2001:db8::1"]), "2001:db8::1");
    }
}
