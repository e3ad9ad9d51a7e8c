/// What happened to a message, as text: a reader keeps the kinds that it does not know (design §1).
public struct EventKind: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
    /// The word that the feed shows.
    public let rawValue: String
    /// Any word, also one this version does not know.
    public init(rawValue: String) { self.rawValue = rawValue }
    /// The word.
    public var description: String { rawValue }

    /// The edge took it: committed, answered 250.
    public static let accepted = EventKind(rawValue: "accepted")
    /// The edge refused it.
    public static let rejected = EventKind(rawValue: "rejected")
    /// Kept, but the client was told to retry.
    public static let withdrawn = EventKind(rawValue: "withdrawn")
    /// A verdict on a recipient host was used.
    public static let assessed = EventKind(rawValue: "assessed")
    /// Tried, to be tried again.
    public static let deferred = EventKind(rawValue: "deferred")
    /// The remote server answered 250.
    public static let delivered = EventKind(rawValue: "delivered")
    /// Not secure enough for the ruleset.
    public static let refused = EventKind(rawValue: "refused")
    /// The remote server answered 5xx.
    public static let bounced = EventKind(rawValue: "bounced")
    /// Too old.
    public static let expired = EventKind(rawValue: "expired")
    /// Ended by an operator.
    public static let cancelled = EventKind(rawValue: "cancelled")
    /// A replay of another message, or delivered a second time.
    public static let duplicate = EventKind(rawValue: "duplicate")
    /// An operator must decide.
    public static let held = EventKind(rawValue: "held")
    /// An operator has decided.
    public static let released = EventKind(rawValue: "released")
    /// A delivery status notification was queued.
    public static let notified = EventKind(rawValue: "notified")
    /// Content and wrapped key are gone from the live rows.
    public static let shredded = EventKind(rawValue: "shredded")
    /// The key epoch is destroyed: no backup opens it.
    public static let unrecoverable = EventKind(rawValue: "unrecoverable")
}
