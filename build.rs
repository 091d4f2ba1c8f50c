//! Compiles `proto/` with protox, a protobuf compiler in Rust, so that building needs nothing but cargo.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "proto")]
    {
        let descriptors = protox::compile(["mainstay/demo/v1/greeter.proto"], ["proto"])?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
    }
    Ok(())
}
