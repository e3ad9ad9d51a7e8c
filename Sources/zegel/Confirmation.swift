// The question before a command changes something much.

import ArgumentParser
import Cluster
import Foundation

/// `--yes`, and the question that it answers.
struct Confirmation: ParsableArguments {
    @Flag(name: .long, help: "Do not ask.")
    var yes = false

    /// Asks on the terminal unless that was answered already.
    /// - Throws: `usage` when there is nobody to ask, `state` when the answer is no.
    func ask(_ what: String) throws {
        if yes { return }
        guard isatty(0) == 1 else { throw ClusterError(.usage, "to \(what), give --yes") }
        FileHandle.standardError.write(Data("\(what)? [y/N] ".utf8))
        guard readLine()?.lowercased().hasPrefix("y") == true else { throw ClusterError(.state, "not done") }
    }
}
