//! Compiles `proto/` with protox, a protobuf compiler in Rust, so that building needs nothing but cargo.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "proto")]
    {
        let descriptors = protox::compile(["mainstay/demo/v1/greeter.proto"], ["proto"])?;
        // Without `connect` on the clients, which would need tonic's transport in every build.
        tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    }
    Ok(())
}
