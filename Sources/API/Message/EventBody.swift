// An event as the API shows it.

import Foundation

/// One event in JSON. `recipient` and `reason_code` are always there, null when there is none; the other optional members
/// only when they say something.
public struct EventBody: Sendable, Hashable, Codable {
    /// UUIDv7, stable: a repeat is recognised by it.
    public var id: String
    /// What happened: `accepted`, `delivered`, … A reader keeps kinds that it does not know.
    public var kind: String
    /// The message, nil for mail that the edge refused.
    public var messageID: String?
    /// The recipient's address, nil when no recipient is concerned or the address is sealed.
    public var recipient: String?
    /// The tenant.
    public var tenant: String
    /// The shard that keeps it.
    public var shard: String
    /// RFC 3339, UTC, microseconds.
    public var at: String
    /// Why, by name (RFC 8460 names and our own).
    public var reasonCode: String?
    /// The cursor of a reader that has read up to and including this event; nil within a message.
    public var cursor: String?
    /// What is known besides: verdict, remote answer, evidence.
    public var detail: JSONValue?
    /// The recipient may have got the message more than once.
    public var possibleDuplicate: Bool?
    /// Recipient or detail exist and could not be opened now.
    public var sealed: Bool?

    enum CodingKeys: String, CodingKey {
        case id, kind, recipient, tenant, shard, at, cursor, detail, sealed
        case messageID = "message_id"
        case reasonCode = "reason_code"
        case possibleDuplicate = "possible_duplicate"
    }

    /// Writes `null` for what a reader may rely on.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(id, forKey: .id)
        try container.encode(kind, forKey: .kind)
        try container.encode(messageID, forKey: .messageID)
        try container.encode(recipient, forKey: .recipient)
        try container.encode(tenant, forKey: .tenant)
        try container.encode(shard, forKey: .shard)
        try container.encode(at, forKey: .at)
        try container.encode(reasonCode, forKey: .reasonCode)
        try container.encodeIfPresent(cursor, forKey: .cursor)
        try container.encodeIfPresent(detail, forKey: .detail)
        try container.encodeIfPresent(possibleDuplicate, forKey: .possibleDuplicate)
        try container.encodeIfPresent(sealed, forKey: .sealed)
    }
}

/// A page of the feed.
public struct EventPageBody: Sendable, Codable {
    /// In the order of the feed.
    public var events: [EventBody]
    /// Where to go on; the same as the request's when there was nothing.
    public var next: String
    /// Shards that could not be read now; their events come with a later page. Not there when all were.
    public var unread: [String]?
}
