//! A proxy between clients and a broker that loses and delays what is said of transactions. It reads the headers of requests: which call, and the number
//! by which its answer is known.

use std::collections::BTreeMap;
use std::io::{Read as _, Result, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anomalyd::seed::Seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// `EndTxn`, of which only commits are disturbed: after an abort nothing is in doubt.
const END: i16 = 26;

/// What is disturbed: calls by Kafka's numbers of them.
///
/// Not `AddPartitionsToTxn` (24): when its answer is lost librdkafka 2.12.1 may end the process by an assertion of its own (`txn_req_cnt > 0`).
pub const CALLS: [(i16, &str); 3] = [
    (25, "AddOffsetsToTxn"),
    (END, "EndTxn to commit"),
    (28, "TxnOffsetCommit"),
];

/// Longer than a producer waits for what became of its transaction, with a transaction timeout of two seconds.
const LONG: Duration = Duration::from_secs(6);

/// What happens to a call.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It never arrives.
    RequestLost,
    /// It is done, and nobody hears of it.
    AnswerLost,
    /// It is done, and the connection ends before the answer.
    HangUp,
    /// It is done, and the answer comes late, as do all behind it.
    Late(Duration),
}

impl Fault {
    /// Which, and whether whatever is tried again soon ends the same way.
    fn any(rng: &mut ChaCha8Rng) -> (Self, bool, &'static str) {
        match rng.gen_range(0..6) {
            0 => (Self::RequestLost, false, "request lost"),
            1 => (Self::RequestLost, true, "requests lost for long"),
            2 => (Self::AnswerLost, false, "answer lost"),
            3 => (Self::AnswerLost, true, "answers lost for long"),
            4 => (Self::HangUp, false, "hung up"),
            _ => {
                let by = Duration::from_millis(rng.gen_range(200..3_000));
                (Self::Late(by), false, "late")
            }
        }
    }
}

/// What is still to happen, and what has.
#[derive(Debug)]
struct Plan {
    rng: ChaCha8Rng,
    left: BTreeMap<i16, u32>,
    /// Producers' calls that fail until then.
    failing: BTreeMap<(i16, Vec<u8>), (Instant, Fault)>,
    counts: BTreeMap<String, u32>,
}

impl Plan {
    /// What happens to a producer's call: mostly nothing.
    fn fault(&mut self, call: i16, producer: &[u8]) -> Option<Fault> {
        let of = (call, producer.to_vec());
        if let Some((until, fault)) = self.failing.get(&of)
            && Instant::now() < *until
        {
            return Some(*fault);
        }
        let left = self.left.get_mut(&call).filter(|left| **left > 0)?;
        if self.rng.gen_ratio(2, 3) {
            return None;
        }
        *left -= 1;
        let (fault, long, how) = Fault::any(&mut self.rng);
        if long {
            self.failing.insert(of, (Instant::now() + LONG, fault));
        }
        let name = CALLS.iter().find(|(known, _)| *known == call)?.1;
        let what = format!("{name}: {how}");
        *self.counts.entry(what).or_default() += 1;
        Some(fault)
    }
}

/// The proxy. Its threads end with their connections.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where clients find it.
    pub address: String,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// Listens at a free port, before a proxy that knows its broker by and by: see [`Proxy::toward`].
    pub fn bind(seed: u64) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let plan = Plan {
            rng: Seed(seed).child("proxy").rng(),
            left: BTreeMap::new(),
            failing: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        let proxy = Self {
            address: listener.local_addr().expect("its address").to_string(),
            plan: Arc::new(Mutex::new(plan)),
        };
        (proxy, listener)
    }

    /// Passes on what comes to `listener`.
    pub fn toward(&self, listener: TcpListener, broker: &str) {
        let (proxy, broker) = (self.clone(), broker.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                // A broker that is not there refuses: so does the proxy.
                if let Ok(server) = TcpStream::connect(&broker) {
                    proxy.connect(client, server).expect("threads");
                }
            }
        });
    }

    /// So many of each call will be disturbed.
    pub fn disturb(&self, each: u32) {
        let left = CALLS.iter().map(|(call, _)| (*call, each)).collect();
        self.plan().left = left;
    }

    /// How many are left to be.
    pub fn left(&self) -> u32 {
        self.plan().left.values().sum()
    }

    /// What happened.
    pub fn counts(&self) -> BTreeMap<String, u32> {
        self.plan().counts.clone()
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection: a thread each way.
    fn connect(&self, client: TcpStream, server: TcpStream) -> Result<()> {
        let faults = Arc::new(Mutex::new(BTreeMap::new()));
        let (there, back) = (faults.clone(), faults);
        let (client_in, server_out) = (client.try_clone()?, server.try_clone()?);
        let proxy = self.clone();
        // Either way ends when a side hangs up, and takes the other with it.
        std::thread::spawn(move || {
            proxy.requests(&client_in, &server_out, &there).ok();
            server_out.shutdown(Shutdown::Both).ok();
        });
        std::thread::spawn(move || {
            answers(&server, &client, &back).ok();
            client.shutdown(Shutdown::Both).ok();
            server.shutdown(Shutdown::Both).ok();
        });
        Ok(())
    }

    fn requests(&self, client: &TcpStream, server: &TcpStream, faults: &Faults) -> Result<()> {
        loop {
            let request = frame(client)?;
            // Kind, version, number.
            let call = i16::from_be_bytes([request[4], request[5]]);
            let number = [request[8], request[9], request[10], request[11]];
            let fault = if call == END && !commits(&request) {
                None
            } else {
                self.plan().fault(call, producer(&request))
            };
            match fault {
                Some(Fault::RequestLost) => continue,
                Some(fault) => {
                    let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
                    faults.insert(number, fault);
                }
                None => {}
            }
            let mut server = server;
            server.write_all(&request)?;
        }
    }
}

/// Whose request it is: the transactional id, which comes behind the header. Newer versions have a byte between and count the length from one;
/// read as an older one the name has one byte more, of the next field.
fn producer(request: &[u8]) -> &[u8] {
    let text = |from: usize| {
        let length = request.get(from..from + 2)?;
        let length = i16::from_be_bytes([length[0], length[1]]).max(0);
        request.get(from + 2..from + 2 + usize::try_from(length).ok()?)
    };
    let client = text(12).unwrap_or_default().len();
    text(14 + client).unwrap_or_default()
}

/// Whether an `EndTxn` before version 3 is to commit: behind the transactional id the producer's id and epoch, then that.
fn commits(request: &[u8]) -> bool {
    let version = i16::from_be_bytes([request[6], request[7]]);
    let client = i16::from_be_bytes([request[12], request[13]]).max(0) as usize;
    let at = 14 + client + 2 + producer(request).len() + 10;
    version < 3 && request.get(at) == Some(&1)
}

/// What will happen to answers, by their numbers.
type Faults = Mutex<BTreeMap<[u8; 4], Fault>>;

fn answers(server: &TcpStream, mut client: &TcpStream, faults: &Faults) -> Result<()> {
    loop {
        let answer = frame(server)?;
        let number = [answer[4], answer[5], answer[6], answer[7]];
        let fault = faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
        match fault {
            Some(Fault::HangUp) => return Ok(()),
            Some(Fault::AnswerLost) => {}
            Some(Fault::Late(by)) => {
                std::thread::sleep(by);
                client.write_all(&answer)?;
            }
            Some(Fault::RequestLost) | None => client.write_all(&answer)?,
        }
    }
}

/// A message with its length before it; at least as long as a header.
fn frame(mut from: &TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let size = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
    let mut frame = vec![0; 4 + size.max(8)];
    frame[..4].copy_from_slice(&length);
    from.read_exact(&mut frame[4..4 + size])?;
    frame.truncate(4 + size);
    Ok(frame)
}
