//! Compiles `proto/` with a pure-Rust compiler, so that a fresh machine builds with cargo alone.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = ["istio/v1/auth/ca.proto", "burgrave/admin/v1/admin.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    // A passphrase and a key travel in these; they are not to be printed by accident.
    config.skip_debug(["burgrave.admin.v1.ExportRequest", "burgrave.admin.v1.New"]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
