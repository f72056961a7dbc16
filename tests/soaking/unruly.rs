//! Clients of the bridge itself that come, go, stall, flood, talk nonsense and guess passwords, all the while.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::World;
use super::dice::Dice;
use crate::support::client::{packet, publish, put_text};
use crate::support::rig::n;

/// How many there are at once.
const CLIENTS: u64 = 6;
/// How many of them try passwords.
const GUESSERS: u64 = 2;
/// The password that is right.
pub const PASSWORD: &str = "a right one";

/// Starts them; they end with the world.
pub fn run(world: &Arc<World>, seed: u64) {
    for number in 0..CLIENTS {
        let world = Arc::clone(world);
        let mut dice = Dice::new(seed ^ (number + 1));
        thread::spawn(move || {
            while !world.is_over() {
                // Whatever ends a connection: the next one comes soon.
                let _ = if number < GUESSERS {
                    guess(&world, &mut dice)
                } else {
                    live(&world, number, &mut dice)
                };
                thread::sleep(dice.time_ms(50, 1_000));
            }
        });
    }
}

/// One connection, from its beginning to whatever ends it.
fn live(world: &World, number: u64, dice: &mut Dice) -> std::io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, world.listener));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    if dice.percent(10) {
        // Half open, or nonsense.
        stream.write_all(&vec![0x10; dice.below(300) + 1])?;
        thread::sleep(dice.time_ms(100, 15_000));
        return Ok(());
    }
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 30];
    put_text(&mut body, &format!("unruly-{number}"));
    stream.write_all(&packet(0x10, &body))?;
    let filters = [
        "#".to_owned(),
        n("#"),
        "N/+/battery/#".to_owned(),
        "chat/#".to_owned(),
    ];
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..=dice.below(20) {
        if world.is_over() {
            break;
        }
        match dice.below(6) {
            0 | 1 => {
                let mut body = vec![0, 1];
                put_text(&mut body, &filters[dice.below(filters.len())]);
                body.push(0);
                stream.write_all(&packet(0x82, &body))?;
            }
            2 => {
                let mut body = vec![0, 2];
                put_text(&mut body, &filters[dice.below(filters.len())]);
                stream.write_all(&packet(0xa2, &body))?;
            }
            3 => {
                let payload = vec![b'x'; dice.below(2_000) + 1];
                for at in 0..=dice.below(2_000) {
                    let topic = format!("chat/{}", at % 50);
                    stream.write_all(&publish(&topic, &payload, at % 100 == 0))?;
                }
            }
            // It takes nothing for a while.
            4 => thread::sleep(dice.time_ms(500, 10_000)),
            _ => {
                for _ in 0..50 {
                    match stream.read(&mut buffer) {
                        Ok(0) => return Ok(()),
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
            }
        }
    }
    Ok(())
}

/// A login with a password that is right or, mostly, wrong. Wrong ones come from many addresses: each has only so
/// many attempts (§9.21).
fn guess(world: &World, dice: &mut Dice) -> std::io::Result<()> {
    let is_right = dice.percent(20);
    let [third, fourth] = if is_right {
        [0, 1]
    } else {
        [1, dice.below(250) + 1]
    };
    let [third, fourth] = [third, fourth].map(|part| u8::try_from(part).unwrap());
    let mut stream = connected([127, 0, third, fourth].into(), world.guarded)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 30];
    put_text(&mut body, &format!("guess-{third}-{fourth}"));
    put_text(&mut body, "me");
    put_text(&mut body, if is_right { PASSWORD } else { "a wrong one" });
    stream.write_all(&packet(0x10, &body))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if (answer[3] == 0) != is_right {
        let what = if is_right { "right" } else { "wrong" };
        let fault = format!("a {what} password was answered with {answer:?}");
        world.books.lock().unwrap().faults.push(fault);
    }
    Ok(())
}

/// A connection that comes from this address.
fn connected(from: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((from, 0)))?;
    connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket.into())
}
