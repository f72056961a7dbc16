//! Properties: what packets of MQTT 5 carry besides [MQTT-2.2.2], read where they stand.
//!
//! mqttbytes reads them too, but lets one run over the end of its section into what follows (a
//! message with two subscription identifiers has the second one in its payload), takes the same one
//! twice, and copies them all. So this is ours: each is known by number and type, each packet says
//! which it takes, and none may come twice but those that may.

/// Bytes that are not as the standard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Takes bytes off the front of a packet's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next so many bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    /// A number in two bytes.
    pub fn two(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number in four bytes.
    pub fn four(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number in one to four bytes [MQTT-1.5.5].
    pub fn variable(&mut self) -> Result<u32, Malformed> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// A text: UTF-8 without NUL [MQTT-1.5.4].
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)?;
        if text.contains('\0') {
            return Err(Malformed);
        }
        Ok(text)
    }

    /// The properties: their length, then they.
    pub fn properties(&mut self) -> Result<Properties<'a>, Malformed> {
        let length = usize::try_from(self.variable()?).map_err(|_| Malformed)?;
        Ok(Properties {
            rest: Reader(self.take(length)?),
            seen: 0,
        })
    }
}

/// One property, by what it is for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// A number, and what it is of.
    Number(Name, u32),
    /// A text, and what it is of.
    Text(Name, &'a str),
    /// Bytes, and what they are of.
    Bytes(Name, &'a [u8]),
    /// A user property: any number of them may come, in any packet.
    User,
}

/// The properties of one packet; ends after the first that is malformed. The default are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    rest: Reader<'a>,
    /// A bit for each that was there.
    seen: u64,
}

impl<'a> Iterator for Properties<'a> {
    type Item = Result<Property<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let property = self.read();
        if property.is_err() {
            self.rest = Reader(&[]);
        }
        Some(property)
    }
}

impl<'a> Properties<'a> {
    fn read(&mut self) -> Result<Property<'a>, Malformed> {
        let number = self.rest.byte()?;
        if number == USER {
            self.rest.text()?;
            self.rest.text()?;
            return Ok(Property::User);
        }
        let (_, name, form) = TABLE
            .iter()
            .find(|(n, ..)| *n == number)
            .copied()
            .ok_or(Malformed)?;
        let bit = 1_u64 << number;
        if self.seen & bit != 0 && name != Name::SubscriptionId {
            return Err(Malformed);
        }
        self.seen |= bit;
        Ok(match form {
            Form::Byte => Property::Number(name, self.rest.byte()?.into()),
            Form::Two => Property::Number(name, self.rest.two()?.into()),
            Form::Four => Property::Number(name, self.rest.four()?),
            Form::Variable => Property::Number(name, self.rest.variable()?),
            Form::Text => Property::Text(name, self.rest.text()?),
            Form::Bytes => Property::Bytes(name, self.rest.bytes()?),
        })
    }

    /// The next one, and the bytes that it has in the packet.
    pub fn next_raw(&mut self) -> Option<(Property<'a>, &'a [u8])> {
        let before = self.rest.0;
        let property = self.next()?.ok()?;
        let length = before.len() - self.rest.0.len();
        Some((property, before.get(..length).unwrap_or_default()))
    }

    /// Reads all to the end, each of which must be one of those named.
    pub fn only(self, allowed: &[Name]) -> Result<(), Malformed> {
        self.each(allowed, |_| Ok(()))
    }

    /// Has each looked at; all must be of those named.
    pub fn each(
        self,
        allowed: &[Name],
        mut look: impl FnMut(Property<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for property in self {
            let property = property?;
            match property {
                Property::Number(name, _) | Property::Text(name, _) | Property::Bytes(name, _) => {
                    if !allowed.contains(&name) {
                        return Err(Malformed);
                    }
                    look(property)?;
                }
                Property::User => {}
            }
        }
        Ok(())
    }
}

/// What a property is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the words of the standard [MQTT-2.2.2.2]
pub enum Name {
    PayloadFormat,
    MessageExpiry,
    ContentType,
    ResponseTopic,
    CorrelationData,
    SubscriptionId,
    SessionExpiry,
    AssignedClientId,
    ServerKeepAlive,
    AuthenticationMethod,
    AuthenticationData,
    ResponseInformation,
    ServerReference,
    ReasonString,
    ReceiveMaximum,
    TopicAliasMaximum,
    TopicAlias,
    MaximumQos,
    RetainAvailable,
    MaximumPacketSize,
    WildcardSubscriptions,
    SubscriptionIds,
    SharedSubscriptions,
    RequestProblem,
    WillDelay,
    RequestResponse,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Byte,
    Two,
    Four,
    Variable,
    Text,
    Bytes,
}

/// The number of the user property.
const USER: u8 = 38;

/// All that there are.
const TABLE: [(u8, Name, Form); 26] = [
    (1, Name::PayloadFormat, Form::Byte),
    (2, Name::MessageExpiry, Form::Four),
    (3, Name::ContentType, Form::Text),
    (8, Name::ResponseTopic, Form::Text),
    (9, Name::CorrelationData, Form::Bytes),
    (11, Name::SubscriptionId, Form::Variable),
    (17, Name::SessionExpiry, Form::Four),
    (18, Name::AssignedClientId, Form::Text),
    (19, Name::ServerKeepAlive, Form::Two),
    (21, Name::AuthenticationMethod, Form::Text),
    (22, Name::AuthenticationData, Form::Bytes),
    (23, Name::RequestProblem, Form::Byte),
    (24, Name::WillDelay, Form::Four),
    (25, Name::RequestResponse, Form::Byte),
    (26, Name::ResponseInformation, Form::Text),
    (28, Name::ServerReference, Form::Text),
    (31, Name::ReasonString, Form::Text),
    (33, Name::ReceiveMaximum, Form::Two),
    (34, Name::TopicAliasMaximum, Form::Two),
    (35, Name::TopicAlias, Form::Two),
    (36, Name::MaximumQos, Form::Byte),
    (37, Name::RetainAvailable, Form::Byte),
    (39, Name::MaximumPacketSize, Form::Four),
    (40, Name::WildcardSubscriptions, Form::Byte),
    (41, Name::SubscriptionIds, Form::Byte),
    (42, Name::SharedSubscriptions, Form::Byte),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(section: &[u8], allowed: &[Name], expected: Result<usize, Malformed>) {
        let mut body = vec![u8::try_from(section.len()).unwrap()];
        body.extend_from_slice(section);
        let mut count = 0;
        let found = Reader(&body).properties().and_then(|properties| {
            properties.each(allowed, |_| {
                count += 1;
                Ok(())
            })
        });
        assert_eq!(found.map(|()| count), expected, "{section:?}");
    }

    #[test]
    fn properties_are_read_each_as_what_it_is() {
        check(&[], &[], Ok(0));
        check(b"\x1f\0\x02ab", &[Name::ReasonString], Ok(1));
        check(b"\x26\0\x01k\0\x01v\x26\0\x01k\0\x01v", &[], Ok(0));
        check(&[11, 5, 11, 0xff, 0x7f], &[Name::SubscriptionId], Ok(2));
        // Not in this packet, unknown, twice, cut short, no text.
        check(b"\x1f\0\x02ab", &[Name::TopicAlias], Err(Malformed));
        check(&[99, 0], &[], Err(Malformed));
        check(&[35, 0, 1, 35, 0, 1], &[Name::TopicAlias], Err(Malformed));
        check(&[35, 0], &[Name::TopicAlias], Err(Malformed));
        check(b"\x1f\0\x03ab", &[Name::ReasonString], Err(Malformed));
        check(b"\x1f\0\x02\xff\xfe", &[Name::ReasonString], Err(Malformed));
        check(b"\x1f\0\x02a\0", &[Name::ReasonString], Err(Malformed));
        check(
            &[11, 0xff, 0xff, 0xff, 0xff, 1],
            &[Name::SubscriptionId],
            Err(Malformed),
        );
    }

    #[test]
    fn a_section_longer_than_its_packet_is_malformed() {
        assert!(Reader(&[5, 35, 0]).properties().is_err());
        assert!(Reader(&[0x80]).properties().is_err());
        assert!(Reader(&[]).properties().is_err());
    }
}
