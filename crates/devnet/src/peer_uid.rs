//! User ID of the peer process of a local connection, from the kernel's table of
//! sockets. TCP itself does not provide it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The kernel's tables of sockets in this network namespace.
const SOCKET_TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Returns the user ID of the process whose socket at `peer` is connected to `server_address`;
/// `None` if no process has it open, or the kernel does not report it.
pub(super) fn peer_uid(peer: SocketAddr, server_address: SocketAddr) -> Option<u32> {
    let wanted: Vec<[String; 2]> = forms(peer)
        .into_iter()
        .zip(forms(server_address))
        .map(Into::into)
        .collect();
    SOCKET_TABLES.iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| uid(line, &wanted))
    })
}

/// Returns the user ID in a line of a table, if the line is the wanted socket and
/// belongs to a process: closed sockets are listed under root, with inode 0.
fn uid(line: &str, wanted: &[[String; 2]]) -> Option<u32> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, remote, _, _, _, _, uid, _, inode, ..] = fields[..] else {
        return None;
    };
    let is_it = wanted
        .iter()
        .any(|pair| pair[0] == local && pair[1] == remote);
    (is_it && inode != "0").then(|| uid.parse().ok())?
}

/// Formats an address as in the tables: 32-bit words in the machine's byte order. An
/// IPv4 address may belong to a socket of either family.
fn forms(address: SocketAddr) -> Vec<String> {
    let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
    let port = address.port();
    let v6 = |ip: std::net::Ipv6Addr| {
        let octets = ip.octets();
        let words = octets
            .chunks_exact(4)
            .map(|w| word([w[0], w[1], w[2], w[3]]));
        let words: String = words.collect();
        format!("{words}:{port:04X}")
    };
    let v4 = |ip: Ipv4Addr| {
        vec![
            format!("{}:{port:04X}", word(ip.octets())),
            v6(ip.to_ipv6_mapped()),
        ]
    };
    match address.ip() {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(|| vec![v6(ip)], v4),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_local_peer_is_identified_by_its_user() {
        for listen in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let host = if listen == "[::1]:0" {
                "::1"
            } else {
                "127.0.0.1"
            };
            let client = TcpStream::connect((host, port)).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let server_address = server.local_addr().unwrap();
            let uid = rustix::process::geteuid().as_raw();
            assert_eq!(peer_uid(peer, server_address), Some(uid), "{listen}");
            // A closed socket has no owner, although the kernel lists it under root.
            drop(client);
            assert_eq!(peer_uid(peer, server_address), None, "{listen}");
        }
    }

    #[test]
    fn only_sockets_of_running_processes_count() {
        let wanted = [["A".to_owned(), "B".to_owned()]];
        let line = |local, remote, inode| {
            format!("0: {local} {remote} 01 0:0 00:0 0 1000 0 {inode} 1 0 20 4 30 10 -1")
        };
        assert_eq!(uid(&line("A", "B", "77"), &wanted), Some(1000));
        assert_eq!(uid(&line("A", "B", "0"), &wanted), None);
        assert_eq!(uid(&line("B", "A", "77"), &wanted), None);
    }
}
