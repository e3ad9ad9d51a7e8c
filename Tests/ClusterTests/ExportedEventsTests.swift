// What somebody kept of GET /v1/events is read as it is; what is none is named by its line.

import Foundation
import Ledger
import Testing

@testable import Cluster

@Suite struct ExportedEventsTests {
    private static func event(_ id: UUID, shard: String = "a", more: String = "") -> String {
        """
        {"id":"\(id.uuidString.lowercased())","kind":"delivered","message_id":null,"recipient":"a\\"}{@bar.test","tenant":"demo",
         "shard":"\(shard)","at":"2026-11-27T10:00:00.250000Z","reason_code":null\(more)}
        """
    }

    private static func read(_ files: [String], shard: String = "a") throws -> [ToldEvent] {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let paths = try files.enumerated().map { index, text in
            let path = folder.appending(path: "\(index).json")
            try Data(text.utf8).write(to: path)
            return path.path
        }
        var events = try ExportedEvents(paths, shard: shard)
        var all: [ToldEvent] = []
        while let event = try events.next() { all.append(event) }
        return all
    }

    @Test func `pages, arrays and events alone are read, over several files and lines, of one shard`() throws
    {
        let ids = (0..<6).map { _ in UUID() }
        let incarnation = UUID()
        let cursor = FeedCursor(["a": FeedPosition(incarnation: incarnation, arrived: 1, id: UUID())]).text
        let events = try Self.read([
            "{\"events\":[\(Self.event(ids[0])),\(Self.event(ids[1], shard: "b"))],\"next\":\"x\"}\n\n",
            "[\(Self.event(ids[2]))]\(Self.event(ids[3], more: ",\"cursor\":\"\(cursor)\",\"possible_duplicate\":true"))",
            "",
            "{\"events\": [], \"next\": \"x\"}\n" + Self.event(ids[4], more: ",\"detail\":{\"reply\":\"[\"}")
                + "\n",
        ])
        #expect(events.map(\.id) == [ids[0], ids[2], ids[3], ids[4]])
        #expect(
            events.allSatisfy {
                $0.recipient == "a\"}{@bar.test" && $0.at.timeIntervalSince1970 == 1_795_773_600.25
            })
        #expect(events.map(\.possibleDuplicate) == [false, false, true, false])
        #expect(events[2].incarnation == incarnation)
    }

    @Test(
        "What is no event is named by file and line",
        arguments: [
            ("\n\nhello", ":3:", "JSON object"), ("{\"events\":[\n{", ":1:", "cut off"),
            ("{\"kind\":\"x\"}", ":1:", "events"), ("{\"events\":[{\"id\":7}]}", ":1:", "id"),
            (
                "\n" + event(UUID()).replacing("2026-11-27T10:00:00.250000Z", with: "yesterday"), ":2:",
                "RFC 3339"
            ),
            ("\n" + event(UUID(), more: ",\"cursor\":\"AQ\""), ":2:", "cursor"),
        ])
    func refused(_ text: String, line: String, words: String) {
        let error = #expect(throws: ClusterError.self) { try Self.read([text]) }
        #expect(
            error?.message.contains(line) == true && error?.message.contains(words) == true,
            "\(error?.message ?? "")")
    }

    @Test func `a file that is not there is named`() {
        let error = #expect(throws: ClusterError.self) {
            try ExportedEvents(["/nowhere/events.json"], shard: "a")
        }
        #expect(error?.message.contains("/nowhere/events.json") == true)
    }
}
