// A message as the API shows it: everything but the content, which the API cannot open.

/// One message in JSON.
public struct MessageBody: Sendable, Hashable, Codable {
    /// What MAIL asked.
    public struct EnvelopeBody: Sendable, Hashable, Codable {
        /// The return path, empty for notifications.
        public var returnPath: String
        /// `7BIT` or `8BITMIME`.
        public var body: String
        /// Whether SMTPUTF8 was asked for.
        public var smtpUTF8: Bool
        /// Whether REQUIRETLS was asked for.
        public var requireTLS: Bool
        /// ENVID of the client.
        public var envelopeID: String?

        enum CodingKeys: String, CodingKey {
            case body
            case returnPath = "return_path"
            case smtpUTF8 = "smtputf8"
            case requireTLS = "require_tls"
            case envelopeID = "envelope_id"
        }
    }

    /// One recipient.
    public struct RecipientBody: Sendable, Hashable, Codable {
        /// Its place in the envelope, from 0.
        public var number: Int
        /// Nil while sealed.
        public var address: String?
        /// `open`, `held`, or how it ended.
        public var state: String
    }

    /// A delivery that is still open.
    public struct DeliveryBody: Sendable, Hashable, Codable {
        /// Its number in the message.
        public var number: Int
        /// The recipient domain.
        public var domain: String
        /// `ready`, `waiting`, `claimed` or `held`.
        public var state: String
        /// When it is tried next.
        public var due: String
        /// Attempts so far.
        public var attempts: Int
    }

    /// The id that the 250 named.
    public var id: String
    /// The tenant.
    public var tenant: String
    /// The shard it lives in.
    public var shard: String
    /// When the edge took it.
    public var acceptedAt: String
    /// What its delivery must satisfy.
    public var ruleset: String
    /// Bytes of content.
    public var size: Int64
    /// Nil while sealed.
    public var envelope: EnvelopeBody?
    /// By number.
    public var recipients: [RecipientBody]
    /// What is still open.
    public var deliveries: [DeliveryBody]
    /// By time.
    public var events: [EventBody]
    /// For a notification: the message it reports on.
    public var reportsOn: String?
    /// When it was taken back.
    public var withdrawnAt: String?
    /// When content and its key went.
    public var shreddedAt: String?
    /// Parts could not be opened now.
    public var sealed: Bool?

    enum CodingKeys: String, CodingKey {
        case id, tenant, shard, ruleset, size, envelope, recipients, deliveries, events, sealed
        case acceptedAt = "accepted_at"
        case reportsOn = "reports_on"
        case withdrawnAt = "withdrawn_at"
        case shreddedAt = "shredded_at"
    }
}
