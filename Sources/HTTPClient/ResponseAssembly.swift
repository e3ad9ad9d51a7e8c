// An answer while it arrives, whichever protocol brings it: the same bounds, kept at the same moments. No I/O.

/// Gathers one answer within its limits.
struct ResponseAssembly: Sendable {
    /// The answer without what its connection adds.
    struct Message: Sendable, Equatable {
        var status: Int
        var fields: HTTPFields
        var body: [UInt8]
    }

    private enum Stage: Equatable { case head, body, ended }

    private let maximumBodyBytes: Int
    /// Whether the answer can have a body at all.
    private let hasBody: Bool
    private var stage = Stage.head
    private var status: Int?
    private var fields = HTTPFields()
    private var body: [UInt8] = []
    private var headerBytes = 0
    private var headerFields = 0

    init(_ method: HTTPRequest.Method, _ limits: HTTPLimits) {
        maximumBodyBytes = limits.maximumBodyBytes
        hasBody = method != .head
    }

    /// Whether the final header is there.
    var hasHead: Bool { stage != .head }

    /// The status line, or `:status`.
    mutating func receive(status: Int) throws(HTTPClientError) {
        guard stage == .head, self.status == nil, (100...999).contains(status) else {
            throw HTTPClientError(.protocolError, "the status code is none, or stands where none may be")
        }
        self.status = status
    }

    /// A field of the header or, after the body, of the trailers: those count and are thrown away.
    mutating func receive(field name: String, _ value: String) throws(HTTPClientError) {
        headerFields += 1
        headerBytes += name.utf8.count + value.utf8.count + 32
        guard headerFields <= HTTPLimits.maximumHeaderFields else {
            throw HTTPClientError(
                .tooLarge, "the header has more than \(HTTPLimits.maximumHeaderFields) fields")
        }
        guard headerBytes <= HTTPLimits.maximumHeaderBytes else {
            throw HTTPClientError(
                .tooLarge, "the header has more than \(HTTPLimits.maximumHeaderBytes) octets")
        }
        if stage == .head { fields.append(name, value) }
    }

    /// The end of a header. That of an interim answer (1xx) is thrown away, and another must follow.
    mutating func receiveHeaderEnd() throws(HTTPClientError) {
        guard stage == .head else { return }
        guard let status else { throw HTTPClientError(.protocolError, "the answer has no status code") }
        if status < 200 {
            guard status != 101 else {
                throw HTTPClientError(.protocolError, "the server changes to a protocol nobody asked for")
            }
            self.status = nil
            fields = HTTPFields()
            return
        }
        stage = .body
        // What is announced too large is not waited for.
        if hasBody, let length = fields["content-length"].flatMap(Int.init), length > maximumBodyBytes {
            throw tooLarge
        }
    }

    /// Octets of the body.
    mutating func receive(body bytes: some Collection<UInt8>) throws(HTTPClientError) {
        guard stage == .body else {
            throw HTTPClientError(.protocolError, "the body comes before the header is whole")
        }
        guard bytes.count <= maximumBodyBytes - body.count else { throw tooLarge }
        body.append(contentsOf: bytes)
    }

    /// The end of the answer.
    mutating func end() throws(HTTPClientError) -> Message {
        guard stage == .body, let status else {
            throw HTTPClientError(.connectionClosed, "the answer ended before its header was whole")
        }
        stage = .ended
        return Message(status: status, fields: fields, body: body)
    }

    private var tooLarge: HTTPClientError {
        HTTPClientError(.tooLarge, "the body has more than the \(maximumBodyBytes) octets allowed")
    }
}
