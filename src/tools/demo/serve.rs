//! The installation on the bus: a service for each device, on a separate thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::installation::{Burst, Installation};
use super::part::{Part, Stop, on_runtime};
use crate::tools::ToolError;
use crate::tools::service::{Behaviour, Peer, Service, WriteHook};

/// An installation that the services and the status line share.
pub(crate) type Shared = Arc<Mutex<Installation>>;

/// Starts the services; how many there are.
pub(crate) async fn start(installation: Shared, bus: String) -> Result<(Part, usize), ToolError> {
    Part::start("simulated installation", move |ready, stop| {
        on_runtime(async move {
            let services = connect(&installation, &bus).await;
            let services = services.map_err(|error| error.to_string())?;
            if ready.send(services.len()).is_err() {
                return Ok(());
            }
            let outcome = live(&installation, &services, stop).await;
            for service in services {
                service.stop().await;
            }
            outcome.map_err(|error| error.to_string())
        })
    })
    .await
}

/// Looks at the installation. Nothing waits while it is held.
pub(crate) fn lock(installation: &Shared) -> MutexGuard<'_, Installation> {
    installation.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(installation: &Shared, bus: &str) -> Result<Vec<Service>, ToolError> {
    let devices: Vec<_> = {
        let installation = lock(installation);
        let names: Vec<String> = installation.names().map(ToOwned::to_owned).collect();
        names
            .into_iter()
            .enumerate()
            .map(|(device, name)| (device, name, installation.items(device)))
            .collect()
    };
    let mut services = Vec::with_capacity(devices.len());
    for (device, name, items) in devices {
        let shared = Arc::clone(installation);
        let on_write: WriteHook =
            Arc::new(move |path, value| lock(&shared).write(device, path, value));
        // Each device has a separate process on a GX device, so each has a connection here.
        let peer = Peer::connect(bus).await?;
        let behaviour = Behaviour::default();
        services.push(peer.add(&name, items, behaviour, Some(on_write)).await?);
    }
    Ok(services)
}

/// Lets time pass until told to stop.
async fn live(
    installation: &Shared,
    services: &[Service],
    mut stop: Stop,
) -> Result<(), ToolError> {
    let hurried = lock(installation).is_paced();
    let mut tick = tokio::time::interval(if hurried { TICK_PACED } else { TICK });
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => return Ok(()),
            now = tick.tick() => {
                let bursts = lock(installation).advance(now - last);
                last = now;
                tell(services, bursts).await?;
            }
        }
    }
}

/// Signals what the devices have to tell, and waits until the bus has taken it.
async fn tell(services: &[Service], bursts: Vec<Burst>) -> Result<(), ToolError> {
    let mut spoke = vec![false; services.len()];
    for burst in bursts {
        let (Some(service), Some(spoke)) =
            (services.get(burst.device), spoke.get_mut(burst.device))
        else {
            continue;
        };
        *spoke = true;
        if burst.together {
            service.set_many(burst.updates)?;
        } else {
            for update in burst.updates {
                service.update(update)?;
            }
        }
    }
    for (service, spoke) in services.iter().zip(spoke) {
        if spoke {
            service.flushed().await?;
        }
    }
    Ok(())
}

/// How often the installation is looked at.
const TICK: Duration = Duration::from_millis(50);
/// The same where a rate is asked for: updates come evenly, not in bursts.
const TICK_PACED: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::super::bus::{self, PrivateDir};
    use super::*;
    use crate::tools::bus::{BUS_ITEM, connect};

    #[tokio::test]
    async fn a_write_reaches_the_plant_and_comes_back() {
        let directory = PrivateDir::create().unwrap();
        let (bus, address) = bus::start(&directory).await.unwrap();
        let shared: Shared = Arc::new(Mutex::new(Installation::new("demo", 0, None, 1)));
        let (services, count) = start(Arc::clone(&shared), address.clone()).await.unwrap();
        assert_eq!(count, super::super::installation::DEVICES_MIN);

        let connection = connect(&address).await.unwrap();
        let name = Some("com.victronenergy.vebus.ttyS4");
        let call = |path: &'static str, method: &'static str, body: Option<Variant<'static>>| {
            let connection = connection.clone();
            async move {
                let item = Some(BUS_ITEM);
                let reply = match body {
                    Some(body) => {
                        connection
                            .call_method(name, path, item, method, &body)
                            .await
                    }
                    None => connection.call_method(name, path, item, method, &()).await,
                };
                reply.unwrap().body()
            }
        };
        let reply = call("/Mode", "SetValue", Some(Variant::I32(4))).await;
        assert_eq!(reply.deserialize::<i32>().unwrap(), 0);
        assert!(lock(&shared).plant().flows.ac_out.abs() < 1e-9);
        let reply = call("/Mode", "GetText", None).await;
        assert_eq!(reply.deserialize::<&str>().unwrap(), "off");
        let reply = call("/Mode", "SetValue", Some(Variant::I32(5))).await;
        assert_eq!(reply.deserialize::<i32>().unwrap(), 2);

        services.stop().await;
        bus.stop().await;
    }
}
