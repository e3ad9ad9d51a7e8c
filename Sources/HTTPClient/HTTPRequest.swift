// What is asked, and under which limits.

/// A request.
public struct HTTPRequest: Sendable, Equatable {
    /// The methods in use (RFC 9110 §9.3, RFC 5789).
    public enum Method: String, Sendable, CaseIterable {
        /// GET.
        case get = "GET"
        /// HEAD.
        case head = "HEAD"
        /// POST.
        case post = "POST"
        /// PUT.
        case put = "PUT"
        /// PATCH.
        case patch = "PATCH"
        /// DELETE.
        case delete = "DELETE"

        /// Whether doing it twice does the same as doing it once (RFC 9110 §9.2.2).
        public var isIdempotent: Bool { self != .post && self != .patch }
        /// Whether a body is expected, so that its length is told even when it is 0 (RFC 9110 §8.6).
        var expectsBody: Bool { self == .post || self == .put || self == .patch }
    }

    /// What is to be done.
    public var method: Method
    /// Where.
    public var url: HTTPSURL
    /// Fields besides those that the client itself writes: host, lengths, connection, `accept-encoding` (none: bodies come
    /// as they are).
    public var fields: HTTPFields
    /// The body; empty: none.
    public var body: [UInt8]

    /// Takes the parts.
    public init(_ method: Method, _ url: HTTPSURL, fields: HTTPFields = [:], body: [UInt8] = []) {
        self.method = method
        self.url = url
        self.fields = fields
        self.body = body
    }

    /// Fields that belong to the client or to one connection (RFC 9110 §7.6.1).
    private static let reserved: Set<String> = [
        "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    ]

    /// Refuses what would not be one request on the wire.
    func validate() throws(HTTPClientError) {
        for field in fields.all {
            guard !field.name.isEmpty, field.name.utf8.allSatisfy(Self.isTokenByte) else {
                throw HTTPClientError(.invalidRequest, "a field name has characters that no name has")
            }
            guard !Self.reserved.contains(field.name) else {
                throw HTTPClientError(.invalidRequest, "the client itself writes the field \(field.name)")
            }
            guard field.value.utf8.allSatisfy({ $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7F) }) else {
                throw HTTPClientError(.invalidRequest, "the value of \(field.name) has control characters")
            }
        }
    }

    /// All fields as they go out, save those that name the host and the target.
    var wireFields: HTTPFields {
        var all = fields
        if all.values(of: "user-agent").isEmpty { all.append("user-agent", "zegel") }
        if !body.isEmpty || method.expectsBody { all.append("content-length", String(body.count)) }
        return all
    }

    /// A character of a token (RFC 9110 §5.6.2).
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

/// What one exchange may cost.
public struct HTTPLimits: Sendable, Equatable {
    /// Most octets of the answer's body.
    public var maximumBodyBytes: Int
    /// For the whole exchange: waiting for a connection, resolving, connecting, request and answer.
    public var deadline: Duration

    /// Takes the limits.
    public init(maximumBodyBytes: Int, deadline: Duration) {
        self.maximumBodyBytes = maximumBodyBytes
        self.deadline = deadline
    }

    /// Most octets of the answer's fields: names, values and 32 for each (RFC 9113 §6.5.2), trailers included.
    public static let maximumHeaderBytes = 64 << 10
    /// Most fields of the answer, trailers included.
    public static let maximumHeaderFields = 200

    /// Most octets that a connection may bring during one exchange, framing and all that is thrown away included. An
    /// honest server stays far below; a flood of frames that say nothing ends here, whatever kind it is.
    var wireBytes: Int {
        let (body, overflow) = maximumBodyBytes.multipliedReportingOverflow(by: 4)
        let rest = 4 * Self.maximumHeaderBytes + (64 << 10)
        return overflow || body > Int.max - rest ? Int.max : max(0, body) + rest
    }
}
