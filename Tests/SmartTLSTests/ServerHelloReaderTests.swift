// The first flight of a server, read whole and in pieces, and everything that is none.

import Lab
import Testing

@testable import SmartTLS

@Suite struct ServerHelloReaderTests {
    private typealias S = ServerMessages
    private typealias Step = ServerHelloReader.Step

    private static func read(_ octets: [UInt8]) -> Step {
        var reader = ServerHelloReader()
        return reader.consume(octets)
    }

    private static func flight(_ octets: [UInt8]) throws -> ServerFlight {
        let step = read(octets)
        guard case .flight(let flight) = step else { throw LabError("\(step)") }
        return flight
    }

    private static let extensions = S.extension(23) + S.extension(0xff01, [0])
    private static let old =
        S.record(S.hello(extensions: extensions)) + S.record(S.certificates([[1, 2], [3]]))
        + S.record(S.curve(29)) + S.record(S.done)

    @Test func `a flight of TLS 1.2 with a curve`() throws {
        var expected = ServerFlight(version: .tls12, suite: 0xc02f)
        expected.hasExtendedMasterSecret = true
        expected.isRenegotiationSecure = true
        expected.group = 29
        expected.signature = 0x0804
        expected.chain = [[1, 2], [3]]
        #expect(try Self.flight(Self.old) == expected)
    }

    @Test func `one octet at a time, and several messages in a record, are the same flight`() throws {
        let expected = try Self.flight(Self.old)
        var reader = ServerHelloReader()
        for octet in Self.old.dropLast() { #expect(reader.consume([octet]) == .needMore) }
        #expect(reader.consume(Self.old.suffix(1)) == .flight(expected))
        let messages =
            S.hello(extensions: Self.extensions) + S.certificates([[1, 2], [3]]) + S.curve(29) + S.done
        #expect(try Self.flight(S.record(messages)) == expected)
        let split = messages.map { S.record([$0]) }.flatMap { $0 }
        #expect(try Self.flight(split) == expected)
    }

    @Test func `it stops at ServerHelloDone and stays there`() throws {
        var reader = ServerHelloReader()
        let step = reader.consume(Self.old + [1, 2, 3])
        #expect(step == .flight(try Self.flight(Self.old)))
        #expect(reader.consume([0xff, 0xff]) == step)
    }

    @Test func `a HelloRetryRequest names the group`() throws {
        let flight = try Self.flight(S.record(S.retry(suite: 0x1302, group: 0x11ec)))
        #expect(flight.version == .tls13 && flight.suite == 0x1302)
        #expect(flight.isRetryRequest && flight.group == 0x11ec)
    }

    @Test func `a ServerHello of TLS 1.3 is the end of what can be read`() throws {
        let share = S.extension(51, S.number(29, 2) + S.vector(2, [1, 2, 3]))
        let hello = S.hello(suite: 0x1301, extensions: S.extension(43, [3, 4]) + share)
        let flight = try Self.flight(S.record(hello) + [23, 3, 3, 0, 1, 0])
        #expect(flight.version == .tls13 && flight.group == 29 && !flight.isRetryRequest)
    }

    @Test
    func `an SSL 3 server without extensions, with compression, with a prime, without a signature number`()
        throws
    {
        let prime = [0] + Array(repeating: UInt8(0xff), count: 128)
        let octets =
            S.record(S.hello(version: 0x0300, suite: 0x0016, compression: 1), version: 0x0300)
            + S.record(S.certificates([[1]]) + S.prime(prime, signature: nil) + S.done, version: 0x0300)
        let flight = try Self.flight(octets)
        #expect(flight.version == .ssl3 && flight.compresses && !flight.isRenegotiationSecure)
        #expect(flight.prime?.bits == 1024 && flight.prime?.group == nil && flight.signature == nil)
    }

    @Test
    func `a static key exchange has no ServerKeyExchange; an anonymous one no certificate and no signature`()
        throws
    {
        let rsa = try Self.flight(S.record(S.hello(suite: 0x002f) + S.certificates([[1]]) + S.done))
        #expect(rsa.group == nil && rsa.prime == nil)
        let anonymous = try Self.flight(
            S.record(S.hello(suite: 0xc018) + S.curve(23, signature: nil) + S.done))
        #expect(anonymous.group == 23 && anonymous.chain.isEmpty && anonymous.signature == nil)
    }

    @Test func `a staple and a request for a certificate are passed over`() throws {
        let messages =
            S.hello() + S.certificates([[1]]) + S.message(22, [1, 0, 0, 0]) + S.curve(23)
            + S.message(13, [1, 2, 3]) + S.done
        #expect(try Self.flight(S.record(messages)).group == 23)
    }

    @Test func `an alert is an answer; a warning about the name is not`() {
        #expect(Self.read([21, 3, 1, 0, 2, 2, 40]) == .alert(TLSAlert(level: 2, code: 40)))
        #expect(Self.read([21, 3, 1, 0, 2, 1, 0]) == .alert(TLSAlert(level: 1, code: 0)))
        let warning: [UInt8] = [21, 3, 1, 0, 2, 1, 112]
        #expect(Self.read(warning) == .needMore)
        #expect(Self.read(warning + Self.old) == Self.read(Self.old))
        #expect(Self.read(warning + warning + warning + warning + warning) == .failure(.tooManyWarnings))
        let afterHello = S.record(S.hello()) + [21, 3, 3, 0, 2, 2, 80]
        #expect(Self.read(afterHello) == .alert(TLSAlert(level: 2, code: 80)))
    }

    struct Fault: Sendable, CustomTestStringConvertible {
        let rule: String
        let octets: [UInt8]
        let error: ServerFlightError
        var testDescription: String { rule }

        init(_ rule: String, _ octets: [UInt8], _ error: ServerFlightError) {
            (self.rule, self.octets, self.error) = (rule, octets, error)
        }
    }

    private static let faults: [Fault] = [
        Fault("cleartext", Array("500 what?\r\n".utf8), .notTLS),
        Fault("one octet is enough", [0x80], .notTLS),
        Fault("SSL 2", [0x80, 0x2e, 0x04, 0x00], .notTLS), Fault("another major version", [22, 2], .notTLS),
        Fault("application data", [23, 3, 3, 0, 5], .unexpectedRecord),
        Fault("a change of keys", [20, 3, 3, 0, 1], .unexpectedRecord),
        Fault("an empty record", [22, 3, 3, 0, 0], .recordLength),
        Fault("a record of 16385", [22, 3, 3, 0x40, 1], .recordLength),
        Fault("half an alert", S.record([2], type: 21), .malformedMessage),
        Fault("a message of 16 MB", S.record([2, 0xff, 0xff, 0xff]), .messageTooLong),
        Fault("a certificate first", S.record(S.certificates([[1]])), .unexpectedMessage),
        Fault("two hellos", S.record(S.hello() + S.hello()), .unexpectedMessage),
        Fault(
            "two chains", S.record(S.hello() + S.certificates([[1]]) + S.certificates([[1]])),
            .unexpectedMessage
        ),
        Fault("two key exchanges", S.record(S.hello() + S.curve(23) + S.curve(23)), .unexpectedMessage),
        Fault("Finished", S.record(S.hello() + S.message(20, [])), .unexpectedMessage),
        Fault("a version of the future", S.record(S.hello(version: 0x0305)), .unknownVersion),
        Fault(
            "a draft of TLS 1.3", S.record(S.hello(extensions: S.extension(43, [0x7f, 28]))), .unknownVersion),
        Fault("a hello of nothing", S.record(S.message(2, [])), .malformedMessage),
        Fault(
            "a session id of 33", S.record(S.message(2, [3, 3] + Array(repeating: 33, count: 70))),
            .malformedMessage
        ),
        Fault(
            "an extension twice", S.record(S.hello(extensions: extensions + extensions)), .malformedMessage),
        Fault(
            "an extension beyond the end", S.record(S.hello(extensions: [0, 23, 0, 9])), .malformedMessage),
        Fault(
            "101 certificates", S.record(S.hello() + S.certificates(Array(repeating: [1], count: 101))),
            .chainTooLong
        ),
        Fault(
            "a certificate beyond the end", S.record(S.hello() + S.message(11, [0, 0, 3, 0, 0, 9])),
            .malformedMessage
        ),
        Fault(
            "octets behind the chain", S.record(S.hello() + S.message(11, [0, 0, 0, 1])), .malformedMessage),
        Fault("a key exchange of nothing", S.record(S.hello() + S.message(12, [])), .malformedMessage),
        Fault("a Done with content", S.record(S.hello() + S.message(14, [0])), .malformedMessage),
        Fault(
            "requests for certificates without end",
            Array(repeating: S.record(S.message(13, Array(repeating: 0, count: 16000))), count: 17).reduce(
                S.record(S.hello()), +), .tooManyOctets
        ),
    ]

    @Test(arguments: faults) func `what is no flight is a fault with a reason`(
        row: Fault
    ) {
        #expect(Self.read(row.octets) == .failure(row.error), "\(row.rule)")
        var reader = ServerHelloReader()
        let last = row.octets.reduce(Step.needMore) { _, octet in reader.consume([octet]) }
        #expect(last == .failure(row.error), "\(row.rule), one octet at a time")
    }

    @Test func `a hundred certificates are a chain`() throws {
        let chain = Array(repeating: [UInt8(1)], count: 100)
        #expect(try Self.flight(S.record(S.hello() + S.certificates(chain) + S.done)).chain == chain)
    }
}
