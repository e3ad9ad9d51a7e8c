// Reads the first flight of a server as it arrives, in pieces of any size: ServerHello or HelloRetryRequest, before
// TLS 1.3 also Certificate and ServerKeyExchange up to ServerHelloDone. There it stops; what follows would need keys.
// Every length is bounded before anything is kept, so that a hostile server costs at most `maximumOctets`.

/// A reader for one connection.
struct ServerHelloReader: Sendable {
    /// What the octets so far come to.
    enum Step: Sendable, Hashable {
        /// Nothing yet.
        case needMore
        /// The flight is complete.
        case flight(ServerFlight)
        /// The server refused.
        case alert(TLSAlert)
        /// The octets are no flight.
        case failure(ServerFlightError)
    }

    /// Of all octets together.
    static let maximumOctets = 256 << 10
    /// Of a record (RFC 8446 §5.1).
    static let maximumRecord = 1 << 14
    /// Of a message.
    static let maximumMessage = 192 << 10
    /// Of a chain.
    static let maximumCertificates = 100
    /// Of warnings before the end.
    static let maximumWarnings = 4

    private enum State: Sendable {
        case hello
        case afterHello(ServerFlight, hasCertificate: Bool, hasExchange: Bool)
        case ended(Step)
    }

    private var state = State.hello
    private var octets = 0
    private var warnings = 0
    /// The record that is not complete yet, with its header.
    private var record: [UInt8] = []
    /// Content of handshake records that is no complete message yet.
    private var message: [UInt8] = []

    /// Takes what arrived. Once it ended it stays so, whatever still comes.
    mutating func consume(_ bytes: some Collection<UInt8>) -> Step {
        if case .ended(let step) = state { return step }
        var rest = bytes[...]
        while !rest.isEmpty {
            let wanted = record.count < 5 ? 5 - record.count : 5 + recordLength - record.count
            let piece = rest.prefix(wanted)
            rest = rest.dropFirst(piece.count)
            octets += piece.count
            guard octets <= Self.maximumOctets else { return end(.failure(.tooManyOctets)) }
            record += piece
            do throws(ServerFlightError) {
                if record.count <= 5 { try checkHeader() }
                guard record.count > 5, record.count == 5 + recordLength else { continue }
                let content = record[5...]
                let type = record[0]
                record = []
                if let step = type == 21 ? try readAlert(content) : try readHandshake(content) {
                    return end(step)
                }
            } catch {
                return end(.failure(error))
            }
        }
        return .needMore
    }

    /// Whether nothing has come yet.
    var isAtStart: Bool { octets == 0 }

    private var recordLength: Int { Int(record[3]) << 8 | Int(record[4]) }

    private mutating func end(_ step: Step) -> Step {
        (state, record, message) = (.ended(step), [], [])
        return step
    }

    /// Checks as much of the header as is there: the first wrong octet ends it.
    private func checkHeader() throws(ServerFlightError) {
        guard (20...24).contains(record[0]), record.count < 2 || record[1] == 3 else { throw .notTLS }
        guard record.count == 5 else { return }
        guard record[0] == 21 || record[0] == 22 else { throw .unexpectedRecord }
        guard (1...Self.maximumRecord).contains(recordLength) else { throw .recordLength }
    }

    private mutating func readAlert(_ content: ArraySlice<UInt8>) throws(ServerFlightError) -> Step? {
        guard content.count == 2, let level = content.first, let code = content.last else {
            throw .malformedMessage
        }
        let alert = TLSAlert(level: level, code: code)
        // RFC 6066 §3 lets a server warn that it does not know the name, and go on. To close (0) is no warning.
        guard level == 1, code != 0 else { return .alert(alert) }
        warnings += 1
        guard warnings <= Self.maximumWarnings else { throw .tooManyWarnings }
        return nil
    }

    private mutating func readHandshake(_ content: ArraySlice<UInt8>) throws(ServerFlightError) -> Step? {
        message += content
        var start = 0
        defer { message.removeFirst(start) }
        while message.count - start >= 4 {
            let length = message[(start + 1)..<(start + 4)].reduce(0) { $0 << 8 | Int($1) }
            guard length <= Self.maximumMessage else { throw .messageTooLong }
            let end = start + 4 + length
            guard message.count >= end else { break }
            let body = message[(start + 4)..<end]
            let type = message[start]
            start = end
            if let flight = try read(type, body) { return .flight(flight) }
        }
        return nil
    }

    /// One message; returns the flight when it is the last.
    private mutating func read(
        _ type: UInt8, _ body: ArraySlice<UInt8>
    ) throws(ServerFlightError) -> ServerFlight? {
        do {
            switch (state, type) {
            case (.hello, 0) where body.isEmpty:
                return nil  // HelloRequest, which means nothing here (RFC 5246 §7.4.1.1).
            case (.hello, 2):
                let flight = try ServerFlight(hello: body)
                if flight.version == .tls13 { return flight }
                state = .afterHello(flight, hasCertificate: false, hasExchange: false)
            case (.afterHello(var flight, false, false), 11):
                flight.chain = try ServerFlight.chain(body)
                state = .afterHello(flight, hasCertificate: true, hasExchange: false)
            case (.afterHello(_, true, false), 22):
                break  // CertificateStatus (RFC 6066 §8), never asked for.
            case (.afterHello(var flight, let hasCertificate, false), 12):
                try flight.readKeyExchange(body)
                state = .afterHello(flight, hasCertificate: hasCertificate, hasExchange: true)
            case (.afterHello, 13):
                break  // CertificateRequest.
            case (.afterHello(let flight, _, _), 14):
                guard body.isEmpty else { throw ServerFlightError.malformedMessage }
                return flight
            default: throw ServerFlightError.unexpectedMessage
            }
            return nil
        } catch let error as ServerFlightError {
            throw error
        } catch {
            throw .malformedMessage
        }
    }
}
