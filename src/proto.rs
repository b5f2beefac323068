//! The generated messages and services, under short names; nothing is added to them but what keeps secrets out of `Debug`.

/// `istio.v1.auth`: the certificate service of Istio's agents.
pub mod istio {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/istio/v1/auth/ca.proto"
    )]
    tonic::include_proto!("istio.v1.auth");
}

/// `burgrave.admin.v1`: how operators see and rotate authorities.
pub mod admin {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/burgrave/admin/v1/admin.proto"
    )]
    tonic::include_proto!("burgrave.admin.v1");

    // A key and a passphrase travel in these; only what names them may be printed.

    impl std::fmt::Debug for New {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let files: Vec<_> = self.files.keys().collect();
            f.debug_struct("New")
                .field("files", &files)
                .field("cross_sign", &self.cross_sign)
                .finish_non_exhaustive()
        }
    }

    impl std::fmt::Debug for ExportRequest {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("ExportRequest")
        }
    }
}

/// Envoy's discovery messages and its secret discovery service.
pub mod envoy {
    pub use envoy_types::pb::envoy::config::core::v3::DataSource;
    pub use envoy_types::pb::envoy::config::core::v3::Node;
    pub use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
    pub use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
    pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
    pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::GenericSecret;
    pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
    pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
    pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type as SecretType;
    pub use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
    pub use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
    pub use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
    pub use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
    pub use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
    pub use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryService;
    pub use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryServiceServer;
    pub use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
    pub use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
    pub use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
    pub use envoy_types::pb::google::protobuf::Any;
    pub use envoy_types::pb::google::protobuf::BytesValue;
    // === ext_authz ===
    pub use envoy_types::pb::envoy::config::core::v3::Address;
    pub use envoy_types::pb::envoy::config::core::v3::HeaderMap;
    pub use envoy_types::pb::envoy::config::core::v3::HeaderValue;
    pub use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
    pub use envoy_types::pb::envoy::config::core::v3::Metadata;
    pub use envoy_types::pb::envoy::config::core::v3::SocketAddress;
    pub use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
    pub use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
    pub use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
    pub use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
    pub use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
    pub use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
    pub use envoy_types::pb::envoy::service::auth::v3::DeniedHttpResponse;
    pub use envoy_types::pb::envoy::service::auth::v3::OkHttpResponse;
    pub use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest as CheckedHttp;
    pub use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer as CheckedPeer;
    pub use envoy_types::pb::envoy::service::auth::v3::attribute_context::Request as CheckedRequest;
    pub use envoy_types::pb::envoy::service::auth::v3::attribute_context::TlsSession;
    pub use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
    pub use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
    pub use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
    pub use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
    pub use envoy_types::pb::envoy::r#type::v3::HttpStatus;
    pub use envoy_types::pb::google::protobuf::Struct as ProtoStruct;
    pub use envoy_types::pb::google::protobuf::Value as ProtoValue;
    pub use envoy_types::pb::google::protobuf::value::Kind as ProtoKind;
    pub use envoy_types::pb::google::rpc::Status;
}

/// Envoy's filters that decide who may call, and what they are made of.
pub mod filters {
    pub use envoy_types::pb::envoy::config::core::v3::ApiVersion;
    pub use envoy_types::pb::envoy::config::core::v3::CidrRange;
    pub use envoy_types::pb::envoy::config::core::v3::GrpcService;
    pub use envoy_types::pb::envoy::config::core::v3::HttpUri;
    pub use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
    pub use envoy_types::pb::envoy::config::core::v3::grpc_service;
    pub use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
    pub use envoy_types::pb::envoy::config::rbac::v3::Action as Verdict;
    pub use envoy_types::pb::envoy::config::rbac::v3::MetadataSource;
    pub use envoy_types::pb::envoy::config::rbac::v3::Permission;
    pub use envoy_types::pb::envoy::config::rbac::v3::Policy;
    pub use envoy_types::pb::envoy::config::rbac::v3::Principal;
    pub use envoy_types::pb::envoy::config::rbac::v3::Rbac as Rules;
    pub use envoy_types::pb::envoy::config::rbac::v3::SourcedMetadata;
    pub use envoy_types::pb::envoy::config::rbac::v3::permission;
    pub use envoy_types::pb::envoy::config::rbac::v3::principal;
    pub use envoy_types::pb::envoy::config::rbac::v3::rbac::Action as RulesAction;
    pub use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
    pub use envoy_types::pb::envoy::config::route::v3::RouteMatch;
    pub use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
    pub use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
    pub use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz as HttpExtAuthz;
    pub use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtClaimToHeader;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtHeader;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtProvider;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtRequirement;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtRequirementOrList;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::RemoteJwks;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::RequirementRule;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::NormalizePayload;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
    pub use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
    pub use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
    pub use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
    pub use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as NetworkExtAuthz;
    pub use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
    pub use envoy_types::pb::envoy::extensions::matching::common_inputs::ssl::v3::UriSanInput;
    pub use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
    pub use envoy_types::pb::envoy::extensions::rbac::principals::mtls_authenticated::v3::Config as MtlsAuthenticated;
    pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::SubjectAltNameMatcher;
    pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::ListMatcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::MetadataMatcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::PathMatcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::ValueMatcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::list_matcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::path_matcher;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
    pub use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher;
    pub use envoy_types::pb::google::protobuf::Duration;
    pub use envoy_types::pb::google::protobuf::Empty;
    pub use envoy_types::pb::google::protobuf::UInt32Value;
    pub use envoy_types::pb::xds::core::v3::TypedExtensionConfig as MatchExtension;
    pub use envoy_types::pb::xds::r#type::matcher::v3::Matcher;
    pub use envoy_types::pb::xds::r#type::matcher::v3::matcher;
}
