//! The demo service, with manners: how often it fails, how long it takes, and on request any error at all.

use std::time::Duration;

use prost::Message;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::StreamExt;
use tonic::codegen::tokio_stream::iter;
use tonic::metadata::MetadataMap;
use tonic::metadata::MetadataValue;

use crate::proto::demo::v1::HelloReply;
use crate::proto::demo::v1::HelloRequest;
use crate::proto::demo::v1::greeter_server;
use crate::rng::Rng;
use crate::rng::fraction;

/// How an upstream behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// What it calls itself in `served_by`.
    pub name: String,
    /// The fraction of calls that end with UNAVAILABLE, `0.0..=1.0`.
    pub unavailable: f64,
    /// How long an ordinary call takes.
    pub latency: Duration,
    /// Which calls take longer than that, if any do.
    pub tail: Option<Tail>,
    /// Where its randomness starts.
    pub seed: u64,
}

/// The slow calls of an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    /// The fraction of calls that are slow, `0.0..=1.0`.
    pub share: f64,
    /// The shortest of them.
    pub from: Duration,
    /// The longest of them.
    pub to: Duration,
}

impl Manners {
    /// Makes an upstream that never fails and answers at once.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), unavailable: 0.0, latency: Duration::ZERO, tail: None, seed: 0 }
    }
}

/// The demo service.
///
/// A name of the form `error:CODE:MESSAGE` ends the call with that status, with the [`RpcStatus`] of it in
/// `grpc-status-details-bin` and the upstream's name in the trailer `served-by`. Request metadata `echo` and
/// `echo-bin` come back in the response's headers.
#[derive(Debug)]
pub struct Greeter {
    manners: Manners,
    rng: Rng,
}

impl Greeter {
    /// Makes the service.
    #[must_use]
    pub fn new(manners: Manners) -> Self {
        let rng = Rng::with_seed(manners.seed);
        Self { manners, rng }
    }

    /// Takes as long as this call is to take, and fails if it is to fail.
    async fn work(&self) -> Result<(), Status> {
        let fails = fraction(self.rng.next()) < self.manners.unavailable;
        let latency = self.latency(self.rng.next(), self.rng.next());
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if fails { Err(Status::unavailable(format!("{} has a bad moment", self.manners.name))) } else { Ok(()) }
    }

    fn latency(&self, which: u64, how_long: u64) -> Duration {
        let how_long = fraction(how_long);
        match self.manners.tail {
            // The square makes the longest ones the rarest.
            Some(tail) if fraction(which) < tail.share => {
                tail.from + tail.to.saturating_sub(tail.from).mul_f64(how_long * how_long)
            }
            _ => self.manners.latency.mul_f64(0.75 + how_long / 2.0),
        }
    }

    fn greet(&self, name: &str) -> Result<HelloReply, Status> {
        match wanted_error(name) {
            Some((code, message)) => Err(self.rich_error(code, message)),
            None => Ok(self.reply(format!("Hello, {name}!"))),
        }
    }

    fn reply(&self, message: String) -> HelloReply {
        HelloReply { message, served_by: self.manners.name.clone() }
    }

    fn rich_error(&self, code: Code, message: &str) -> Status {
        let reason = HelloReply { message: message.to_owned(), served_by: self.manners.name.clone() };
        let detail = Any {
            type_url: "type.googleapis.com/mainstay.demo.v1.HelloReply".to_owned(),
            value: reason.encode_to_vec(),
        };
        let details = RpcStatus { code: code as i32, message: message.to_owned(), details: vec![detail] };
        let mut trailers = MetadataMap::new();
        if let Ok(name) = self.manners.name.parse() {
            trailers.insert("served-by", name);
        }
        trailers.insert_bin("served-by-bin", MetadataValue::from_bytes(&[0, 159, 146, 150]));
        Status::with_details_and_metadata(code, message, details.encode_to_vec().into(), trailers)
    }
}

#[tonic::async_trait]
impl greeter_server::Greeter for Greeter {
    type SayHelloStreamStream = BoxStream<HelloReply>;
    type ChatStream = BoxStream<HelloReply>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        self.work().await?;
        let reply = self.greet(&request.get_ref().name)?;
        Ok(with_echo(request.metadata(), Response::new(reply)))
    }

    async fn say_hello_stream(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamStream>, Status> {
        self.work().await?;
        let HelloRequest { name, replies } = request.get_ref();
        let replies = if *replies == 0 { 3 } else { *replies };
        let greeting = self.reply(format!("Hello, {name}!"));
        let error = self.greet(name).err();
        // The error comes after the messages, so that it travels in real trailers.
        let messages = iter((1..=replies).map(move |n| {
            let message = format!("{} ({n} of {replies})", greeting.message);
            Ok(HelloReply { message, served_by: greeting.served_by.clone() })
        }));
        let stream: Self::SayHelloStreamStream = Box::pin(messages.chain(iter(error.map(Err))));
        Ok(with_echo(request.metadata(), Response::new(stream)))
    }

    async fn greet_many(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<HelloReply>, Status> {
        self.work().await?;
        let (metadata, _, mut requests) = request.into_parts();
        let mut names = Vec::new();
        while let Some(HelloRequest { name, .. }) = requests.message().await? {
            self.greet(&name)?;
            names.push(name);
        }
        let reply = self.greet(&names.join(", "))?;
        Ok(with_echo(&metadata, Response::new(reply)))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        self.work().await?;
        let (metadata, _, requests) = request.into_parts();
        let greeter = Self::new(self.manners.clone());
        let stream: Self::ChatStream = Box::pin(requests.map(move |request| greeter.greet(&request?.name)));
        Ok(with_echo(&metadata, Response::new(stream)))
    }
}

/// The standard message for the details of an error (`google/rpc/status.proto`), as `grpc-status-details-bin` holds it.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// The number of the status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The message of the status.
    #[prost(string, tag = "2")]
    pub message: String,
    /// What else there is to say, each a message of any type.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// A message of any type (`google/protobuf/any.proto`).
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// The name of the type, after a slash.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

fn wanted_error(name: &str) -> Option<(Code, &str)> {
    let (code, message) = name.strip_prefix("error:")?.split_once(':')?;
    let code = Code::from_i32(code.parse().ok()?);
    if code == Code::Ok { None } else { Some((code, message)) }
}

fn with_echo<T>(request: &MetadataMap, mut response: Response<T>) -> Response<T> {
    if let Some(value) = request.get("echo") {
        response.metadata_mut().insert("echo", value.clone());
    }
    if let Some(value) = request.get_bin("echo-bin") {
        response.metadata_mut().insert_bin("echo-bin", value.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_ask_for_an_error() {
        assert_eq!(wanted_error("error:5:no such: person"), Some((Code::NotFound, "no such: person")));
        assert_eq!(wanted_error("error:0:fine"), None);
        assert_eq!(wanted_error("error:x:y"), None);
        assert_eq!(wanted_error("Ada"), None);
    }

    #[test]
    fn the_tail_has_its_share_and_its_bounds() {
        let tail = Tail { share: 0.05, from: Duration::from_millis(300), to: Duration::from_millis(900) };
        let greeter =
            Greeter::new(Manners { latency: Duration::from_millis(4), tail: Some(tail), ..Manners::new("slow") });
        let latencies: Vec<_> = (0..10_000).map(|_| greeter.latency(greeter.rng.next(), greeter.rng.next())).collect();
        let (slow, quick): (Vec<_>, Vec<_>) = latencies.into_iter().partition(|took| *took >= tail.from);
        assert!((400..600).contains(&slow.len()), "{} of 10000 are slow", slow.len());
        assert!(slow.iter().all(|took| *took <= tail.to));
        assert!(quick.iter().all(|took| *took <= Duration::from_millis(5)));
    }
}
