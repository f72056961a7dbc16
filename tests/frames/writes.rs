//! Requests whose client is told how they ended, in the world of [`super`]: each write has a value of
//! its own, so that its call and its answer can be told from all others.

use super::*;

/// One write of a client.
pub(super) struct Write {
    pub(super) broker: usize,
    topic: String,
    /// To whom the call went, where there was one.
    called: Option<Box<str>>,
    /// The word for what went wrong, or "ok".
    told: Option<String>,
    /// The client has lost its broker since.
    pub(super) may_be_untold: bool,
}

/// The value of the first write; no other value is as large.
const FIRST: usize = 1_000_000;

impl World {
    pub(super) fn write(&mut self, broker: usize, topic: &str) {
        if self.brokers[broker].link == Link::Down {
            return;
        }
        let number = FIRST + self.writes.len();
        self.writes.push(Write {
            broker,
            topic: topic.into(),
            called: None,
            told: None,
            may_be_untold: false,
        });
        let to = ResponseAddress {
            topic: "answers/writes".into(),
            correlation: number.to_string().into_bytes().into(),
            client: None,
        };
        let payload = format!("{{\"value\": {number}}}");
        self.request_from(
            broker,
            &format!("W/{PORTAL}/{topic}"),
            &payload,
            false,
            Some(to),
        );
    }

    pub(super) fn read(&mut self, broker: usize, topic: &str) {
        if self.brokers[broker].link == Link::Down {
            return;
        }
        self.brokers[broker].reads.insert(topic.into());
        let to = ResponseAddress {
            topic: "answers/reads".into(),
            correlation: topic.as_bytes().into(),
            client: None,
        };
        self.request_from(broker, &format!("R/{PORTAL}/{topic}"), "", false, Some(to));
    }

    /// A call of a service: a write is called once, after all that came before it (§5.6), and only
    /// where its client may write (§8).
    pub(super) fn check_call(&mut self, call: &Call) {
        let Method::SetValue(value) = &call.method else {
            return;
        };
        let Some(at) = written(value) else { return };
        let later = self.writes[at..]
            .iter()
            .find(|write| write.called.as_deref() == Some(&*call.destination));
        assert!(
            later.is_none(),
            "s5_6: twice, or out of turn: {}",
            self.writes[at].topic
        );
        let write = &mut self.writes[at];
        let (key, path) = split_topic(&write.topic).expect("the topic of an item");
        assert_eq!(path, &*call.path, "s5_6: {}", write.topic);
        assert!(
            (self.brokers[write.broker].lists.write).admits(key, path),
            "s8: {}",
            write.topic
        );
        write.called = Some(call.destination.clone());
    }

    /// A client is told how its request ended.
    pub(super) fn told(&mut self, broker: usize, to: &ResponseAddress, payload: &str) {
        let told: serde_json::Value = serde_json::from_str(payload).unwrap();
        let word = match told["error"].as_str() {
            Some(word) => word,
            None => told["status"].as_str().unwrap(),
        };
        let correlation = std::str::from_utf8(&to.correlation).unwrap();
        if &*to.topic == "answers/reads" {
            let value = told["value"].to_string();
            let hidden = correlation.starts_with("vebus/") && value.contains("Tunnel");
            assert!(!hidden, "s4_7: {payload}");
            let pin = &told["value"]["Settings/Ble/Service/Pincode"];
            let shown = correlation.starts_with("settings/")
                && pin.as_str().is_some_and(|pin| pin.contains("text"));
            assert!(!shown, "s4_7: {payload}");
            if let Some((key, path)) = split_topic(correlation)
                && word == "ok"
                && !told["value"].is_null()
            {
                let lists = &self.brokers[broker].lists;
                let whole = !told["value"].is_object();
                assert!(
                    !whole || lists.read.admits(key, path) && lists.publish.admits(key, path),
                    "s8: {correlation}: {payload}"
                );
            }
            return;
        }
        let write = &mut self.writes[correlation.parse::<usize>().unwrap() - FIRST];
        assert_eq!(
            (write.broker, &write.told),
            (broker, &None),
            "s5_8: {payload}"
        );
        // What is refused before the service is asked, and what only its answer can tell.
        let may = match word {
            "ok" | "bad-answer" | "refused" => [true, true],
            // A service that owes answers is not asked (§2.9).
            "timed-out" | "unknown-path" | "unknown-service" => [true, false],
            _ => [false, false],
        };
        let called = write.called.is_some();
        assert!(
            called == may[0] || called == may[1],
            "s5_6: {} is {word}, called: {called}",
            write.topic
        );
        write.told = Some(word.into());
    }

    /// Every write has been called or refused, and its client was told.
    pub(super) fn check_writes(&self) {
        for write in &self.writes {
            assert!(
                write.told.is_some() || write.may_be_untold,
                "s5_8: nobody was told what became of {}, called: {:?}",
                write.topic,
                write.called
            );
        }
    }
}

/// Which write has this value.
fn written(value: &BusValue) -> Option<usize> {
    let number = match value {
        BusValue::I32(number) => i64::from(*number),
        BusValue::U32(number) => i64::from(*number),
        BusValue::I64(number) => *number,
        #[allow(clippy::cast_possible_truncation)] // small, and a whole one
        BusValue::Double(number) => *number as i64,
        // To an item that has a text (§3).
        BusValue::Text(text) => text.parse().ok()?,
        _ => return None,
    };
    usize::try_from(number).ok()?.checked_sub(FIRST)
}
