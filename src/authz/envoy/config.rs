//! Pure: which configurations of filters are made here?

use prost::Message;
use prost::Name;

use crate::proto::envoy::Any;
use crate::proto::filters::HttpExtAuthz;
use crate::proto::filters::HttpRbac;
use crate::proto::filters::JwtAuthentication;
use crate::proto::filters::NetworkExtAuthz;
use crate::proto::filters::NetworkRbac;

/// The configuration of a filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// `envoy.filters.http.rbac`.
    HttpRbac(Box<HttpRbac>),
    /// `envoy.filters.network.rbac`.
    NetworkRbac(Box<NetworkRbac>),
    /// `envoy.filters.http.jwt_authn`.
    JwtAuthn(Box<JwtAuthentication>),
    /// `envoy.filters.http.ext_authz`.
    HttpExtAuthz(Box<HttpExtAuthz>),
    /// `envoy.filters.network.ext_authz`.
    NetworkExtAuthz(Box<NetworkExtAuthz>),
}

impl Config {
    /// The configuration as it is sent to Envoy.
    pub fn to_any(&self) -> Any {
        match self {
            Self::HttpRbac(config) => packed(&**config),
            Self::NetworkRbac(config) => packed(&**config),
            Self::JwtAuthn(config) => packed(&**config),
            Self::HttpExtAuthz(config) => packed(&**config),
            Self::NetworkExtAuthz(config) => packed(&**config),
        }
    }
}

fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
