//! A TCP proxy that breaks connections on demand.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who connected to the proxy, to its target.
    ToTarget,
    /// Back.
    ToClient,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToTarget, Self::ToClient];
}

/// Forwards connections from a free port of 127.0.0.1 to a target, until it is dropped, and
/// breaks them on demand: at any time, each direction on its own.
///
/// ```
/// # use outbox_sandbox::proxy::{Direction, TcpProxy};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = TcpProxy::start(server.local_addr()?).await?;
/// proxy.stall(Direction::ToClient); // requests get through, answers do not
/// proxy.heal();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    rules: watch::Sender<Rules>,
    task: JoinHandle<()>,
}

/// What holds for all connections. The counters tell a connection what has happened since it
/// was made.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    refusing: bool,
    cuts: u64,
    silences: u64,
    heals: u64,
    to_target: Flow,
    to_client: Flow,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    stalled: bool,
    closes: u64,
    pace: Option<NonZeroU32>,
}

impl Rules {
    fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::ToTarget => self.to_target,
            Direction::ToClient => self.to_client,
        }
    }

    fn flow_mut(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::ToTarget => &mut self.to_target,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

impl TcpProxy {
    /// Starts to forward to `target`, which need not be there yet: a connection to it is made
    /// for each connection that comes in.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let rules = watch::Sender::new(Rules::default());
        let task = tokio::spawn(accept(listener, target, rules.subscribe()));
        Ok(Self {
            address,
            rules,
            task,
        })
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all connections; new ones are fine.
    pub fn cut(&self) {
        self.change(|rules| rules.cuts += 1);
    }

    /// All connections that there are fall silent for good, as when a firewall has forgotten
    /// them: nothing gets through, and neither side is told. New ones are fine.
    pub fn silence(&self) {
        self.change(|rules| rules.silences += 1);
    }

    /// From now on new connections are reset (`true`), or welcome.
    pub fn refuse(&self, refuse: bool) {
        self.change(|rules| rules.refusing = refuse);
    }

    /// Holds back what flows this way, on all connections, until [`resume`](Self::resume).
    pub fn stall(&self, direction: Direction) {
        self.change(|rules| rules.flow_mut(direction).stalled = true);
    }

    /// Lets go what was held back.
    pub fn resume(&self, direction: Direction) {
        self.change(|rules| rules.flow_mut(direction).stalled = false);
    }

    /// Tells the receiving side of all connections that nothing more comes this way.
    pub fn half_close(&self, direction: Direction) {
        self.change(|rules| rules.flow_mut(direction).closes += 1);
    }

    /// At most so many bytes a second this way, on each connection; `None`: as fast as it goes.
    pub fn slow(&self, direction: Direction, bytes_per_second: Option<NonZeroU32>) {
        self.change(|rules| rules.flow_mut(direction).pace = bytes_per_second);
    }

    /// From now on everything gets through. Connections that had fallen silent are reset.
    pub fn heal(&self) {
        self.change(|rules| {
            rules.refusing = false;
            rules.heals += 1;
            for direction in Direction::BOTH {
                let flow = rules.flow_mut(direction);
                flow.stalled = false;
                flow.pace = None;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(change);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, rules: watch::Receiver<Rules>) {
    // Owned by this task, so that all connections end with the proxy.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) if rules.borrow().refusing => reset(&client),
            Ok((client, _)) => drop(connections.spawn(connect(client, target, rules.clone()))),
            // Out of descriptors, say: other connections have to end first.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connect(mut client: TcpStream, target: SocketAddr, rules: watch::Receiver<Rules>) {
    let born = *rules.borrow();
    let Ok(mut server) = TcpStream::connect(target).await else {
        return reset(&client);
    };
    // Small writes must not wait for each other: both ends decide themselves what to gather.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    if carry(&mut client, &mut server, born, &rules).await.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Closing sends a RST from now on, and drops what has not been sent.
fn reset(stream: &TcpStream) {
    // Refused only for sockets that are gone already.
    let _ = stream.set_zero_linger();
}

/// Forwards both ways until both are closed; an error when the connection is to be reset.
async fn carry(
    client: &mut TcpStream,
    server: &mut TcpStream,
    born: Rules,
    rules: &watch::Receiver<Rules>,
) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let pump = |direction| Pump {
        direction,
        closes: born.flow(direction).closes,
        rules: rules.clone(),
    };
    let there = pump(Direction::ToTarget).run(from_client, to_server);
    let back = pump(Direction::ToClient).run(from_server, to_client);
    let both = async { tokio::try_join!(there, back) };
    let silenced = reached(rules.clone(), |rules| rules.silences > born.silences);
    let carried = async {
        tokio::select! {
            // First of all: what comes after the word must not get through.
            biased;
            () = silenced => std::future::pending().await,
            ended = both => ended.map(drop),
        }
    };
    tokio::select! {
        biased;
        () = to_be_reset(rules, born) => Err(io::ErrorKind::ConnectionReset.into()),
        ended = carried => ended,
    }
}

/// Returns when the connection is cut, or is silent while all is healed.
async fn to_be_reset(rules: &watch::Receiver<Rules>, born: Rules) {
    let cut = reached(rules.clone(), |rules| rules.cuts > born.cuts);
    let healed = async {
        reached(rules.clone(), |rules| rules.silences > born.silences).await;
        let heals = rules.borrow().heals;
        reached(rules.clone(), |rules| rules.heals > heals).await;
    };
    tokio::select! {
        () = cut => {}
        () = healed => {}
    }
}

async fn reached(mut rules: watch::Receiver<Rules>, is_it: impl Fn(&Rules) -> bool) {
    if rules.wait_for(|rules| is_it(rules)).await.is_err() {
        // The proxy is gone, and this connection goes with it.
        std::future::pending().await
    }
}

/// One direction of one connection.
struct Pump {
    direction: Direction,
    /// How many half-closes there had been before this connection was made.
    closes: u64,
    rules: watch::Receiver<Rules>,
}

impl Pump {
    const CHUNK: usize = 16 * 1024;
    /// A slowed flow moves so often.
    const TICKS_PER_SECOND: u32 = 20;

    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = vec![0; Self::CHUNK];
        while let Some(flow) = self.flowing().await {
            let read = tokio::select! {
                _ = self.rules.changed() => continue,
                read = from.read(&mut buffer[..chunk(flow)]) => read?,
            };
            // The rules may have changed while it was under way.
            if read == 0 || self.flowing().await.is_none() {
                break;
            }
            to.write_all(&buffer[..read]).await?;
            if flow.pace.is_some() {
                sleep(Duration::from_secs(1) / Self::TICKS_PER_SECOND).await;
            }
        }
        // Who has gone already need not be told.
        let _ = to.shutdown().await;
        Ok(())
    }

    /// Waits while the flow is stalled; `None` once it is closed, or the proxy is gone.
    async fn flowing(&mut self) -> Option<Flow> {
        let (direction, closes) = (self.direction, self.closes);
        let settled = |rules: &Rules| {
            let flow = rules.flow(direction);
            flow.closes > closes || !flow.stalled
        };
        let flow = self.rules.wait_for(settled).await.ok()?.flow(direction);
        (flow.closes == closes).then_some(flow)
    }
}

fn chunk(flow: Flow) -> usize {
    let Some(pace) = flow.pace else {
        return Pump::CHUNK;
    };
    let bytes = (pace.get() / Pump::TICKS_PER_SECOND).max(1);
    usize::try_from(bytes).map_or(Pump::CHUNK, |bytes| bytes.min(Pump::CHUNK))
}
