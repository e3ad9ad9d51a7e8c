// recipient-lab: the world of the lab as a program, for whoever wants to look at it with other tools. It writes what is where as
// JSON and lives until its standard input ends.

import Foundation
import RecipientLab

/// One mail host as it is written.
private struct WrittenHost: Encodable {
    let address: String
    /// A PEM file with the one chain that it presents; nil: none, or several.
    let chain: String?
}

/// One case as it is written.
private struct WrittenCase: Encodable {
    let name: String
    let rule: String
    let domain: String
    let verdicts: [String: String]
    let hosts: [WrittenHost]
    /// Whether it is about more than DANE and certificates: an MTA-STS policy, an NTA 7516 record, a static route.
    let isOurs: Bool
    /// Whether something in it never answers.
    let isSilent: Bool
}

/// A world as it is written.
private struct WrittenWorld: Encodable {
    let mailPort: Int
    let policyPort: Int
    let dnsPort: Int
    let trustAnchor: String
    let trustRoots: String
    let cases: [WrittenCase]
}

@main private enum Server {
    static func main() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard let folder = arguments.first, arguments.count <= 2 else {
            FileHandle.standardError.write(Data("usage: recipient-lab FOLDER [MAILPORT]\n".utf8))
            exit(64)
        }
        let rows = RecipientCase.chosen(ProcessInfo.processInfo.environment["ZEGEL_CASES"])
        let world = try await RecipientWorld.build(
            rows, mailPort: arguments.dropFirst().first.flatMap { Int($0) })
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(try written(world, rows, in: folder))
            .write(to: URL(filePath: folder + "/world.json"), options: .atomic)
        print("ready", terminator: "\n")
        fflush(nil)
        while readLine() != nil {}
        await world.end()
    }

    private static func written(
        _ world: RecipientWorld, _ rows: [RecipientCase], in folder: String
    ) throws -> WrittenWorld {
        let cases = try rows.map { row in
            var hosts: [WrittenHost] = []
            while let host = world.host(hosts.count, of: row) {
                let file = "\(folder)/\(row.name)-\(hosts.count).pem"
                if let chain = host.chain { try Data(chain).write(to: URL(filePath: file)) }
                hosts.append(WrittenHost(address: host.address, chain: host.chain.map { _ in file }))
            }
            return WrittenCase(
                name: row.name, rule: row.rule, domain: row.domain,
                verdicts: Dictionary(uniqueKeysWithValues: row.verdicts.byRuleset.map { ($0, $1) }),
                hosts: hosts, isOurs: row.isOurs, isSilent: row.isSilent)
        }
        return WrittenWorld(
            mailPort: world.mailPort, policyPort: world.policyPort, dnsPort: Int(world.dnsPort),
            trustAnchor: world.trustAnchor, trustRoots: world.trustRoots, cases: cases)
    }
}
