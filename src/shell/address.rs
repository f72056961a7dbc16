//! Where others reach this computer.

use std::net::{IpAddr, UdpSocket};

/// The address by which others reach what listens on this one: that of the way out. Nothing is sent to find it:
/// the way to an address for documentation (RFC 5737, RFC 3849) is looked up. `None` where there is no way out.
pub fn outward(bind: IpAddr) -> Option<IpAddr> {
    let far = match bind {
        IpAddr::V4(_) => IpAddr::from([192, 0, 2, 1]),
        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    };
    let socket = UdpSocket::bind((bind, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
