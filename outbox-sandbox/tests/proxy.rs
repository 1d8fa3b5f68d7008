//! The proxy, each way of breaking a connection.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may stop at the first surprise"
)]

use outbox_sandbox::proxy::{Direction, TcpProxy};
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);
/// What has not come by then is taken not to come.
const A_WHILE: Duration = Duration::from_millis(200);

/// A proxy, and the server behind it.
struct Setup {
    listener: TcpListener,
    proxy: TcpProxy,
}

impl Setup {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = TcpProxy::start(listener.local_addr().unwrap())
            .await
            .unwrap();
        Self { listener, proxy }
    }

    /// Both ends of a connection through the proxy, on which bytes have already flowed.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (mut server, _) = timeout(PATIENCE, self.listener.accept())
            .await
            .unwrap()
            .unwrap();
        assert!(gets_through(&mut client, &mut server).await);
        assert!(gets_through(&mut server, &mut client).await);
        (client, server)
    }
}

/// Whether a byte arrives, in good time.
async fn gets_through(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"x").await.unwrap();
    arrives(to, PATIENCE).await
}

async fn arrives(to: &mut TcpStream, patience: Duration) -> bool {
    matches!(timeout(patience, to.read_u8()).await, Ok(Ok(b'x')))
}

/// How a stream ends: `Ok` for an orderly close.
async fn end(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    read.unwrap().map(drop).map_err(|error| error.kind())
}

#[tokio::test]
async fn bytes_and_closes_get_through_both_ways() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(end(&mut server).await, Ok(()));
    assert!(gets_through(&mut server, &mut client).await);
    drop(server);
    assert_eq!(end(&mut client).await, Ok(()));
}

#[tokio::test]
async fn a_cut_resets_what_there_is_and_not_what_comes() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.cut();
    assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(end(&mut server).await, Err(ErrorKind::ConnectionReset));
    setup.pair().await;
}

#[tokio::test]
async fn a_stalled_direction_holds_back_and_the_other_goes_on() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.stall(Direction::ToTarget);
    client.write_all(b"x").await.unwrap();
    assert!(!arrives(&mut server, A_WHILE).await);
    assert!(gets_through(&mut server, &mut client).await);
    setup.proxy.resume(Direction::ToTarget);
    assert!(arrives(&mut server, PATIENCE).await);
}

#[tokio::test]
async fn a_stalled_connection_can_be_cut() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.stall(Direction::ToTarget);
    client.write_all(b"x").await.unwrap();
    setup.proxy.cut();
    assert_eq!(end(&mut server).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_half_close_ends_one_direction() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.half_close(Direction::ToTarget);
    assert_eq!(end(&mut server).await, Ok(()));
    assert!(gets_through(&mut server, &mut client).await);
    setup.pair().await;
}

#[tokio::test]
async fn a_slow_direction_takes_its_time() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.pair().await;
    setup
        .proxy
        .slow(Direction::ToTarget, NonZeroU32::new(1_000));
    let begun = Instant::now();
    client.write_all(&[0; 500]).await.unwrap();
    let mut buffer = [0; 500];
    server.read_exact(&mut buffer).await.unwrap();
    // Ten parts of fifty bytes, with a pause of 50 ms between each two.
    assert!(begun.elapsed() >= Duration::from_millis(450));
}

#[tokio::test]
async fn refused_connections_are_reset_and_others_live_on() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.refuse(true);
    let mut refused = TcpStream::connect(setup.proxy.address()).await.unwrap();
    assert_eq!(end(&mut refused).await, Err(ErrorKind::ConnectionReset));
    assert!(gets_through(&mut client, &mut server).await);
    setup.proxy.refuse(false);
    setup.pair().await;
}

#[tokio::test]
async fn a_silenced_connection_says_nothing_until_all_is_healed() {
    let setup = Setup::new().await;
    setup.proxy.heal(); // an earlier one has no bearing
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.silence();
    client.write_all(b"x").await.unwrap();
    server.write_all(b"x").await.unwrap();
    assert!(!arrives(&mut server, A_WHILE).await);
    assert!(!arrives(&mut client, A_WHILE).await);
    setup.pair().await;
    setup.proxy.heal();
    assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn without_a_target_a_connection_is_reset() {
    let Setup { listener, proxy } = Setup::new().await;
    drop(listener);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
}
