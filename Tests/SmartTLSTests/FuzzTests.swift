// Every parser of what strangers publish or send, fed with mutants: none may crash, and what it returns keeps its
// promises. Files of the corpora of TXT records have a record in each line and `|` between its strings; those of DNS
// records begin with the type.

import Lab
import Testing

@testable import DNS
@testable import SmartTLS

@Suite(.serialized) struct FuzzTests {
    private static func records(_ input: [UInt8], joined: Bool = false) -> [DNSRecord] {
        input.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
            let strings = line.split(separator: UInt8(ascii: "|"), omittingEmptySubsequences: false).map(
                Array.init)
            return .txt(joined ? [Array(strings.joined())] : strings)
        }
    }

    private static func demand(_ holds: Bool, _ promise: String) throws {
        if !holds { throw LabError(promise) }
    }

    @Test(.enabled(if: Fuzzing.includes("MTASTSRecord"))) func `MTA-STS records`() throws {
        var fuzzing = try Fuzzing("MTASTSRecord")
        fuzzing.run { input, _ in
            let outcome = MTASTSRecord.read(Self.records(input))
            try Self.demand(
                outcome == MTASTSRecord.read(Self.records(input, joined: true)), "strings are joined")
            guard case .record(let record) = outcome else { return "\(outcome)" }
            let id = Array(record.id.utf8)
            try Self.demand((1...32).contains(id.count), "an id of 1 to 32")
            try Self.demand(id.allSatisfy(RecordText.isAlphanumeric), "letters and digits")
            return "record"
        }
    }

    @Test(.enabled(if: Fuzzing.includes("MTASTSPolicy"))) func `MTA-STS policies`() throws {
        var fuzzing = try Fuzzing("MTASTSPolicy")
        fuzzing.run { input, _ in
            let policy: MTASTSPolicy
            do throws(MTASTSPolicyError) { policy = try MTASTSPolicy(body: input) } catch {
                return "\(min(error.line ?? 0, 8)) \(error.reason)"
            }
            try Self.demand((.zero...MTASTSPolicy.maximumAge).contains(policy.maxAge), "max_age")
            try Self.demand(!policy.mx.isEmpty || policy.mode == .none, "at least one mx")
            for pattern in policy.mx where !pattern.isWildcard {
                try Self.demand(policy.matches(host: pattern.name), "a name matches itself")
            }
            let lines =
                ["version: STSv1", "mode: \(policy.mode)", "max_age: \(policy.maxAge.components.seconds)"]
                + policy.mx.map { "mx: \($0)" }
            let text = Array(lines.joined(separator: "\r\n").utf8)
            if text.count <= MTASTSPolicy.maximumBodySize {
                try Self.demand(try MTASTSPolicy(body: text) == policy, "written again it is the same")
            }
            return "\(policy.mode) \(min(policy.mx.count, 4))"
        }
    }

    @Test(.enabled(if: Fuzzing.includes("NTARecord"))) func `NTA 7516 records`() throws {
        let month = try #require(Month(year: 2026, month: 6))
        var fuzzing = try Fuzzing("NTARecord")
        fuzzing.run { input, _ in
            let outcome = NTARecord.read(Self.records(input), security: .secure, month: month)
            let insecure = NTARecord.read(Self.records(input), security: .insecure, month: month)
            if case .record = insecure { throw LabError("an insecure answer has no record") }
            switch outcome {
            case .absent(.expired): return "expired"
            case .absent(.notYetValid): return "not yet"
            case .absent(let absence): return "\(absence)"
            case .record(let record):
                try Self.demand((record.start...record.end).contains(month), "its months")
                try Self.demand(record.exchanges.count <= NTARecord.maximumExchanges, "its hosts")
                try Self.demand(record.exchanges.allSatisfy { $0.host.isHostName }, "host names")
                let order = record.exchanges.map { $0.preference.map(Int.init) ?? .max }
                try Self.demand(order == order.sorted(), "by preference")
                return "record \(record.exchanges.count) \(record.provider == nil)"
            }
        }
    }

    @Test(.enabled(if: Fuzzing.includes("ServerHello"))) func `the first flight of a server`() throws {
        var fuzzing = try Fuzzing("ServerHello")
        fuzzing.run { input, generator in
            var whole = ServerHelloReader()
            let step = whole.consume(input)
            var pieces = ServerHelloReader()
            var last = ServerHelloReader.Step.needMore
            var rest = input[...]
            while !rest.isEmpty {
                let piece = rest.prefix(Int.random(in: 1...64, using: &generator))
                last = pieces.consume(piece)
                rest = rest.dropFirst(piece.count)
            }
            try Self.demand(last == step, "pieces of any size come to the same")
            switch step {
            case .needMore: return "needMore"
            case .alert(let alert): return "alert \(alert.level == 1)"
            case .failure(let error): return error.rawValue
            case .flight(let flight):
                try Self.demand(flight.chain.count <= ServerHelloReader.maximumCertificates, "its chain")
                let exchange = CipherSuite.with(code: flight.suite)?.keyExchange
                return "\(flight.version) \(exchange.map { "\($0)" } ?? "?") \(flight.isRetryRequest)"
            }
        }
    }

    @Test(.enabled(if: Fuzzing.includes("DNSRecord"))) func `the data of DNS records`() throws {
        var fuzzing = try Fuzzing("DNSRecord")
        fuzzing.run { input, _ in
            guard input.count >= 2 else { return "short" }
            let type = DNSRecordType(rawValue: UInt16(input[0]) << 8 | UInt16(input[1]))
            let record: DNSRecord
            do throws(DNSFailure) { record = try DNSRecord(type: type, data: Array(input[2...])) } catch {
                try Self.demand(error.code == .malformed, "\(error)")
                return error.reason.filter { !$0.isNumber }
            }
            switch record {
            case .mx(_, let name), .cname(let name), .ns(let name):
                let again = try? DomainName(name.text)
                try Self.demand(!name.isHostName || again == name, "a host name is one as text")
                return "\(type) \(name.isHostName)"
            case .txt(let strings): return "TXT \(min(strings.count, 4))"
            case .other: return "other"
            default: return "\(type)"
            }
        }
    }

    @Test(.enabled(if: Fuzzing.includes("DNSMessage"))) func `whole DNS messages`() throws {
        var fuzzing = try Fuzzing("DNSMessage")
        fuzzing.run { input, _ in
            do throws(DNSFailure) {
                let message = try DNSMessage(input)
                let first = message.answers.first
                let outcome = first.flatMap { message.outcome(of: $0.owner, $0.type) }?.outcome
                return
                    "\(message.responseCode) \(min(message.answers.count, 4)) \(outcome.map(Self.kind) ?? "?")"
            } catch {
                return error.reason.filter { !$0.isNumber }
            }
        }
    }

    private static func kind(_ outcome: DNSAnswer.Outcome) -> String {
        switch outcome {
        case .records: "records"
        case .nodata: "nodata"
        case .nxdomain: "nxdomain"
        }
    }
}
