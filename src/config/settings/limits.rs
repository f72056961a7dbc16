//! The table `[limits]`: every bound of the program. What happens when one is reached is in `docs/limits.md`.

use std::time::Duration;

use crate::config::setting::{U32_MAX, count, seconds};
use crate::model::log_rate::LogRate;

settings! {
    /// Every bound of the program.
    pub struct Limits from LIMITS;

    made {}

    in LIMITS_SECTION {
        /// The most values that are known at one time, over all services
        ///
        /// More are ignored until there is room.
        items_max: usize = count("items-max").or("500_000");
        /// The most services that are known at one time
        services_max: usize = count("services-max").or("2_000").reload();
        /// The most bytes of one text of a service, as the service sends it
        ///
        /// A longer value is not published, not kept and not written; that is reported once for each.
        text_bytes_max: usize = count("text-bytes-max").or("1_048_576").reload();
        /// The same for one list, dict or struct
        array_bytes_max: usize = count("array-bytes-max").or("1_048_576").reload();
        /// The most bytes of all texts and lists together, as they are published
        ///
        /// What is kept of services before it is known what they are counts too. A value for which there is no
        /// room is not published until there is.
        cache_bytes_max: usize = count("cache-bytes-max").or("33_554_432").reload();
        /// The most bytes in the payload of one request (§5.8)
        request_bytes_max: usize = count("request-bytes-max").or("65_536");
        /// The most requests a second from the clients of one broker
        ///
        /// More are refused and counted. Keep-alives are counted apart, so that other requests cannot keep them
        /// out; those beyond the limit still keep alive what is alive.
        request_rate_max: usize = count("request-rate-max").or("2_000").reload();
        /// The most requests at once, after a quiet time
        request_burst_max: usize = count("request-burst-max").or("10_000").reload();
        /// The most write requests that wait for an answer from the D-Bus (§5.6)
        writes_in_flight_max: usize = count("writes-in-flight-max").or("1_024").reload();
        /// The same for read requests
        calls_in_flight_max: usize = count("calls-in-flight-max").or("4_096").reload();
        /// The most topic filters of selective keep-alives, per broker (§5.4)
        filters_max: usize = count("filters-max").or("1_000");
        /// The most clients that are connected to the program itself, over all listeners (§9.22)
        clients_max: usize = count("clients-max").or("250");
        /// The most of them from one address other than this device
        clients_per_address_max: usize = count("clients-per-address-max").or("50");
        /// The most connections that a listener takes in a second
        accept_rate_max: usize = count("accept-rate-max").or("50");
        /// The most writes of values to such clients in a second, over all of them
        ///
        /// Beyond that values are gathered for longer.
        client_writes_max: usize = count("client-writes-max").or("1_000").reload();
        /// The most topic filters of one such client
        ///
        /// Where a listener has home-assistant, besides 10,000 topics without wildcards: Home Assistant asks for
        /// each value.
        client_filters_max: usize = count("client-filters-max").or("200").reload();
        /// The most levels of a topic or filter of one such client
        client_levels_max: usize = count("client-levels-max").or("128").reload();
        /// For how many seconds one such client may be at a packet, from its first byte to its last
        client_packet: Duration = seconds("client-packet-s").within(1, U32_MAX).or("30").reload();
        /// For how many seconds a new client may be at TLS, at WebSocket and at CONNECT, each
        client_handshake: Duration = seconds("client-handshake-s").within(1, U32_MAX).or("10");
        /// The most connections to the program itself that have not logged in
        ///
        /// The oldest is closed. At one listener as many may be at TLS or WebSocket.
        logins_max: usize = count("logins-max").or("32");
        /// The most bytes of what a client sends before it has logged in
        login_bytes_max: usize = count("login-bytes-max").or("65_536").reload();
        /// The most bytes of one D-Bus message
        frame_bytes_max: usize = count("frame-bytes-max").or("33_554_432");
        /// The most bytes on their way to a broker that the network has not taken yet
        ///
        /// What does not fit waits where it costs nothing, and only its latest value is sent.
        out_buffer_bytes: usize = count("out-buffer-bytes").or("65_536");
        /// The most lines of one kind in the log about what clients and services do wrong, in one interval
        ///
        /// The clients of each broker have their own. More are counted, and the number logged.
        log_lines_max: usize = count("log-lines-max").or("10").reload();
        /// That interval, in seconds
        log_interval: Duration = seconds("log-interval-s").within(1, U32_MAX).or("10").reload();
        /// The same for a day
        log_day_lines_max: usize = count("log-lines-per-day-max").or("1000").reload();
        /// After how many seconds a D-Bus call without an answer counts as failed
        call_timeout: Duration = seconds("call-timeout-s").within(1, U32_MAX).or("25").reload();
        /// The same for a call that a client waits for
        read_timeout: Duration = seconds("read-timeout-s").within(1, U32_MAX).or("5").reload();
        /// For how many seconds the program may clear retained topics when it is stopped (§4.9)
        shutdown: Duration = seconds("shutdown-s").within(1, U32_MAX).or("5").reload();
    }
}

const LIMITS_SECTION: &str = "Limits";

impl Limits {
    /// How many lines of one kind are logged.
    pub fn log(&self) -> LogRate {
        LogRate {
            lines_max: self.log_lines_max,
            interval: self.log_interval,
            day_lines_max: self.log_day_lines_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_in_the_table() {
        let text = include_str!("../../../docs/limits.md");
        for setting in LIMITS {
            let key = setting.key;
            let row = text
                .lines()
                .find(|line| line.starts_with("| ") && line.contains(&format!("`{key}`")));
            let row = row.unwrap_or_else(|| panic!("{key}"));
            let keys = row.split('|').nth(1).unwrap();
            assert_eq!(keys.contains('*'), setting.reload, "{key}: {row}");
        }
    }

    #[test]
    fn what_needs_a_restart_stays_and_is_named() {
        let mut limits = Limits::default();
        let new = Limits {
            items_max: 1,
            services_max: 2,
            log_interval: Duration::from_secs(3),
            ..Limits::default()
        };
        assert_eq!(limits.take_over(&new), ["items-max"]);
        let expected = Limits {
            items_max: 500_000,
            ..new
        };
        assert_eq!(limits, expected);
    }
}
