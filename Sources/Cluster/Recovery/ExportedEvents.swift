// Events that somebody has kept: what GET /v1/events answered, page by page, or the events alone, one a line.

import Foundation
import Ledger

/// The events of some files that are of one shard.
struct ExportedEvents {
    private struct Line: Decodable {
        var id: UUID
        var kind: String
        var message: UUID?
        var recipient: String?
        var tenant: String
        var shard: String
        var at: String
        var reasonCode: String?
        var cursor: String?
        var possibleDuplicate: Bool?

        enum CodingKeys: String, CodingKey {
            case id, kind, recipient, tenant, shard, at, cursor
            case message = "message_id"
            case reasonCode = "reason_code"
            case possibleDuplicate = "possible_duplicate"
        }
    }

    private struct Page: Decodable { var events: [Line] }

    private let shard: String
    private var paths: ArraySlice<String>
    private var values: JSONValues
    private var lines: ArraySlice<Line> = []
    private var place = ""

    /// - Parameter paths: at least one.
    init(_ paths: [String], shard: String) throws(ClusterError) {
        guard let first = paths.first else { throw ClusterError(.usage, "no file of events is named") }
        self.shard = shard
        self.paths = paths.dropFirst()
        values = try JSONValues(first)
    }

    /// The next one; nil: there are no more.
    /// - Throws: `usage`, with the line, for what is no event.
    mutating func next() throws(ClusterError) -> ToldEvent? {
        while true {
            while let line = lines.popFirst() {
                if line.shard == shard { return try event(line) }
            }
            if let value = try values.next() {
                place = "\(values.path):\(value.line)"
                lines = try Self.decode(value, place)[...]
            } else if let path = paths.popFirst() {
                values = try JSONValues(path)
            } else {
                return nil
            }
        }
    }

    private static func decode(_ value: JSONValues.Value, _ place: String) throws(ClusterError) -> [Line] {
        let (decoder, data) = (JSONDecoder(), Data(value.bytes))
        do {
            if value.bytes.first == UInt8(ascii: "[") { return try decoder.decode([Line].self, from: data) }
            if let line = try? decoder.decode(Line.self, from: data) { return [line] }
            return try decoder.decode(Page.self, from: data).events
        } catch {
            throw ClusterError(
                .usage,
                "\(place): this is no event and no page of them, as GET /v1/events answers: \(Self.words(error))"
            )
        }
    }

    private static func words(_ error: any Error) -> String {
        switch error {
        case DecodingError.keyNotFound(let key, _): "\"\(key.stringValue)\" is missing"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.dataCorrupted(let context):
            context.codingPath.last.map { "\"\($0.stringValue)\" is not what it should be" }
                ?? "it is not JSON"
        default: "it is not JSON"
        }
    }

    private mutating func event(_ line: Line) throws(ClusterError) -> ToldEvent {
        guard let at = RestorePoint.moment(line.at) else {
            throw ClusterError(.usage, "\(place): \"at\" is no RFC 3339 timestamp with a zone")
        }
        return ToldEvent(
            id: line.id, tenant: line.tenant, kind: EventKind(rawValue: line.kind), message: line.message,
            recipient: line.recipient, at: at, reasonCode: line.reasonCode,
            possibleDuplicate: line.possibleDuplicate ?? false, incarnation: try incarnation(line.cursor))
    }

    private func incarnation(_ cursor: String?) throws(ClusterError) -> UUID? {
        guard let cursor else { return nil }
        do { return try FeedCursor(cursor).positions[shard]?.incarnation } catch {
            throw ClusterError(.usage, "\(place): \"cursor\" is none that the API wrote")
        }
    }
}
