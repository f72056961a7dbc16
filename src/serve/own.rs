//! Topics of ours that are no items: the serial, the status, the heartbeat, configurations for Home
//! Assistant. Each listener has its own: what its clients may do is not what those of another may. Only the
//! latest payload of each counts; who has not had it yet is counted, so that one that is gone is forgotten
//! when all have been told.

use std::collections::HashMap;
use std::rc::Rc;

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Own {
    topics: Vec<Option<OwnTopic>>,
    /// By listener and topic.
    numbers: Vec<HashMap<Rc<str>, u32>>,
    free: Vec<u32>,
}

/// One topic.
#[derive(Debug)]
pub struct OwnTopic {
    /// The whole topic.
    pub topic: Rc<str>,
    /// Whose clients it is for.
    listener: usize,
    /// Its latest payload.
    pub payload: Box<[u8]>,
    /// Whether who subscribes later gets it.
    pub retain: bool,
    /// How many clients have yet to be told.
    waiting: usize,
}

impl OwnTopic {
    /// Whether who subscribes now gets it.
    pub fn is_kept(&self) -> bool {
        self.retain && !self.payload.is_empty()
    }
}

impl Own {
    /// Says something to the clients of a listener: gives the topic's number.
    pub fn say(&mut self, listener: usize, topic: &str, payload: &[u8], retain: bool) -> u32 {
        if let Some(number) = self.number(listener, topic) {
            if let Some(Some(own)) = self.topics.get_mut(number as usize) {
                own.payload = payload.into();
                own.retain = retain;
            }
            return number;
        }
        let topic: Rc<str> = topic.into();
        let own = OwnTopic {
            topic: topic.clone(),
            listener,
            payload: payload.into(),
            retain,
            waiting: 0,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            u32::try_from(self.topics.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.topics.get_mut(number as usize) {
            *place = Some(own);
        }
        if self.numbers.len() <= listener {
            self.numbers.resize_with(listener + 1, HashMap::new);
        }
        if let Some(numbers) = self.numbers.get_mut(listener) {
            numbers.insert(topic, number);
        }
        number
    }

    /// The topic of a number.
    pub fn get(&self, number: u32) -> Option<&OwnTopic> {
        self.topics.get(number as usize)?.as_ref()
    }

    /// The number of a topic of a listener.
    pub fn number(&self, listener: usize, topic: &str) -> Option<u32> {
        self.numbers.get(listener)?.get(topic).copied()
    }

    /// Topics of a listener that are cleared, and that some client has yet to be told of.
    pub fn clears(&self, listener: usize) -> impl Iterator<Item = u32> {
        let clears = move |own: &&OwnTopic| own.listener == listener && own.payload.is_empty();
        (0_u32..)
            .zip(&self.topics)
            .filter_map(move |(number, own)| own.as_ref().filter(clears).map(|_| number))
    }

    /// Whether any listener says something there.
    pub fn is_said(&self, topic: &str) -> bool {
        let mut listeners = self.numbers.iter();
        listeners.any(|numbers| numbers.contains_key(topic))
    }

    /// One more client is to be told.
    pub fn awaits(&mut self, number: u32) {
        if let Some(Some(own)) = self.topics.get_mut(number as usize) {
            own.waiting += 1;
        }
    }

    /// One was told, or has left.
    pub fn told(&mut self, number: u32) {
        if let Some(Some(own)) = self.topics.get_mut(number as usize) {
            own.waiting = own.waiting.saturating_sub(1);
        }
        self.tidy(number);
    }

    /// Forgets the topic where nobody is to have it any more.
    pub fn tidy(&mut self, number: u32) {
        let Some(place) = self.topics.get_mut(number as usize) else {
            return;
        };
        if let Some(own) = place.take_if(|own| own.waiting == 0 && !own.is_kept()) {
            if let Some(numbers) = self.numbers.get_mut(own.listener) {
                numbers.remove(&own.topic);
            }
            self.free.push(number);
        }
    }

    /// All that who subscribes now at a listener gets.
    pub fn kept(&self, listener: usize) -> impl Iterator<Item = (u32, &OwnTopic)> {
        let kept = move |own: &&OwnTopic| own.listener == listener && own.is_kept();
        (0_u32..)
            .zip(&self.topics)
            .filter_map(move |(number, own)| Some((number, own.as_ref().filter(kept)?)))
    }
}
