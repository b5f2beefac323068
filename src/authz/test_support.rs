//! A question of a proxy, for unit tests.

use crate::proto::envoy::Address;
use crate::proto::envoy::AddressKind;
use crate::proto::envoy::AttributeContext;
use crate::proto::envoy::CheckRequest;
use crate::proto::envoy::CheckedPeer;
use crate::proto::envoy::PortSpecifier;
use crate::proto::envoy::SocketAddress;

/// About a connection in plain text.
pub(crate) fn connection() -> CheckRequest {
    let socket = SocketAddress {
        address: "192.0.2.1".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(1)),
        ..SocketAddress::default()
    };
    let address = Address { address: Some(AddressKind::SocketAddress(socket)) };
    let peer = CheckedPeer { address: Some(address), ..CheckedPeer::default() };
    let attributes = AttributeContext {
        source: Some(peer.clone()),
        destination: Some(peer),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}
