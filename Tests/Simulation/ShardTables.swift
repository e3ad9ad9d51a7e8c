// The tables of one shard as arrays of small values: what counts for laws 1, 5, 6 and 7 of migrations 0003 to 0010. Sealed bytes,
// keys, uploads and judgements are left out. A message has at most two deliveries of at most two recipients each.

import Ledger

/// Rows of one shard, indexed by the counters of their ids.
public struct ShardTables: Sendable {
    /// `ledger.message`.
    public struct Message: Sendable, Equatable {
        /// Deliveries not ended.
        public var openDeliveries: Int32
        /// Taken back: its client was told to send it again.
        public var isWithdrawn = false
        /// Content and key are gone.
        public var isShredded = false
        /// Its content, by number: what its tag is made of.
        public var content: Int32
        /// Deliveries that it began with, and recipients of each.
        public var deliveries: Int8
        /// Recipients of each delivery.
        public var recipients: Int8
    }

    /// `ledger.delivery`.
    public struct Delivery: Sendable, Equatable {
        /// Its state.
        public enum State: UInt8, Sendable { case ready, waiting, claimed, held }
        /// Where it stands.
        public var state = State.ready
        /// Not before.
        public var due: Ticks
        /// Attempts made.
        public var attempts: Int32 = 0
        /// Grows with each claim.
        public var fence: Int64 = 0
        /// The counter of the id that has claimed it.
        public var worker: Int32 = -1
        /// A final dot may have been sent.
        public var possibleDuplicate = false
        /// Its sender was told of the delay.
        public var delayReported = false
    }

    /// `ledger.recipient.state`.
    public enum Recipient: UInt8, Sendable {
        case open, held, delivered, refused, bounced, expired, cancelled, withdrawn, duplicate
    }

    /// `ledger.replay`.
    public struct Tag: Sendable, Equatable {
        /// The message that stands for these bytes.
        public var message: Int32
        /// Somebody was told so.
        public var isReplayed = false
        /// Its client has shown that it has the 250 .
        public var isAcknowledged = false
    }

    /// A row of `ledger.dot_in_flight`.
    public struct Dot: Sendable, Equatable {
        /// The delivery's index.
        public var delivery: Int32
        /// The claim.
        public var fence: Int64
        /// When it was registered, by the server's clock.
        public var at: Ticks
    }

    /// A row of `ledger.event`.
    public struct Event: Sendable, Equatable {
        /// The counter of its id; 0 where the database makes it.
        public var number: Int32
        /// The message.
        public var message: Int32
        /// The recipient's number, or -1.
        public var recipient: Int8
        /// What happened.
        public var kind: EventWord
        /// Marked.
        public var possibleDuplicate: Bool
    }

    /// Deliveries of one message have neighbouring indices.
    public static let deliveriesOfMessage = 2
    /// So have recipients.
    public static let recipientsOfMessage = 4

    /// By message.
    public private(set) var messages: [Message?] = []
    /// By message and number.
    public private(set) var deliveries: [Delivery?] = []
    /// By message and number.
    public private(set) var recipients: [Recipient?] = []
    /// By content.
    public private(set) var tags: [Tag?] = []
    /// The end of each lease, by worker id; nil: no row.
    public private(set) var leases: [Ticks?] = []
    /// By worker id.
    public private(set) var dots: [[Dot]?] = []
    /// In order.
    public private(set) var events: [Event] = []
    /// The newest timeline that has its row in `ledger.incarnation`; 0: none.
    public private(set) var incarnation: Int32 = 0

    /// Empty tables.
    public init() {}

    static func delivery(_ message: Int, _ number: Int) -> Int { message * deliveriesOfMessage + number }
    static func recipient(_ message: Int, _ number: Int) -> Int { message * recipientsOfMessage + number }

    func message(_ index: Int) -> Message? { index < messages.count ? messages[index] : nil }
    func delivery(_ index: Int) -> Delivery? { index < deliveries.count ? deliveries[index] : nil }
    func recipient(_ index: Int) -> Recipient? { index < recipients.count ? recipients[index] : nil }
    func tag(_ content: Int) -> Tag? { content < tags.count ? tags[content] : nil }
    func lease(_ worker: Int) -> Ticks? { worker < leases.count ? leases[worker] : nil }
    func dots(_ worker: Int) -> [Dot]? { worker < dots.count ? dots[worker] : nil }

    /// The numbers of a delivery's recipients that are in one of these states.
    func recipients(of delivery: Int, in states: Set<Recipient> = [.open]) -> [Int] {
        let message = delivery / Self.deliveriesOfMessage
        guard let row = self.message(message) else { return [] }
        let first = (delivery % Self.deliveriesOfMessage) * Int(row.recipients)
        return (first..<first + Int(row.recipients)).filter {
            recipient(Self.recipient(message, $0)).map(states.contains) ?? false
        }
    }

    /// A change of one row.
    enum Write: Sendable {
        case message(Int, Message)
        case delivery(Int, Delivery?)
        case recipient(Int, Recipient)
        case tag(Int, Tag?)
        case lease(Int, Ticks?)
        case dots(Int, [Dot]?)
        case event(Event)
        case incarnation(Int32)
    }

    mutating func apply(_ writes: [Write]) {
        for write in writes {
            switch write {
            case .message(let index, let row): Self.put(&messages, index, row)
            case .delivery(let index, let row): Self.put(&deliveries, index, row)
            case .recipient(let index, let row): Self.put(&recipients, index, row)
            case .tag(let index, let row): Self.put(&tags, index, row)
            case .lease(let index, let row): Self.put(&leases, index, row)
            case .dots(let index, let row): Self.put(&dots, index, row)
            case .event(let event): events.append(event)
            case .incarnation(let line): incarnation = line
            }
        }
    }

    private static func put<Row>(_ rows: inout [Row?], _ index: Int, _ row: Row?) {
        while rows.count <= index { rows.append(nil) }
        rows[index] = row
    }
}

/// The kinds of events that a history knows, as numbers.
public enum EventWord: UInt8, Sendable {
    case accepted, withdrawn, deferred, delivered, refused, bounced, expired, cancelled, duplicate, held,
        shredded
    case other

    /// Of the word in the feed.
    public init(_ kind: EventKind) {
        switch kind {
        case .accepted: self = .accepted
        case .withdrawn: self = .withdrawn
        case .deferred: self = .deferred
        case .delivered: self = .delivered
        case .refused: self = .refused
        case .bounced: self = .bounced
        case .expired: self = .expired
        case .cancelled: self = .cancelled
        case .duplicate: self = .duplicate
        case .held: self = .held
        case .shredded: self = .shredded
        default: self = .other
        }
    }
}
