# The default rules for tool calls, and a description of how to write your own.
#
# A rule file has the package `taskpilot.tools` and up to three rules. They are evaluated once before each tool call:
#
#   allow             a boolean; only `true` allows the call
#   deny              a set of reasons (strings); any reason denies the call, whatever the other rules say
#   require_approval  a set of reasons (strings); any reason makes the call wait for a person
#
# Your own files (`policy.files` in the settings) are evaluated separately from this one: neither can change a rule of the
# other, and both may use the same names. If one of the two denies a call, it is denied; else if one requires an approval, it
# waits; else if one allows it, it is allowed; else it is denied. With `policy.default = false` this file is not used. An error
# in a rule, or a rule with a result of another type, denies the call (`policy_error`).
#
# The input. It is checked before: types, at most 64 kB, at most 16 levels, no NUL character, no integer beyond 64 bits.
#
#   input.tool        the tool's name
#   input.arguments   its arguments, an object, as the tool gets them
#   input.folded      the same object with each text simplified for comparing: lower case, no accents, no invisible characters,
#                     plain letters instead of full-width or bold ones, spaces instead of control characters
#   input.agent       who calls: planner, reviewer, executor, another agent's name, or `job` for the job's own code
#   input.job         the job's name
#   input.run_id      the run's id
#   input.job_tools   the names of the tools that the job lists
#
# Letters of other scripts that only look the same are not replaced, so a list of forbidden words can be evaded.
# A file that holds more than what is evaluated is refused, such as `http.send` or `deny(x) := ...`: it would be undefined without an error.

package taskpilot.tools

built_in := {"create_task", "notify", "delete_task"}

# Tasks: created by the planner, the executor and the job's own code.

may_file_tasks if input.agent in {"planner", "executor", "job"}

allow if {
	input.tool == "create_task"
	may_file_tasks
	valid_title
	valid_priority
}

deny contains "the title must be text of 1 to 500 characters" if {
	input.tool == "create_task"
	not valid_title
}

deny contains "the priority must be high, medium or low" if {
	input.tool == "create_task"
	not valid_priority
}

deny contains "the description must be text of at most 10,000 characters" if {
	input.tool == "create_task"
	not valid_description
}

require_approval contains "a high-priority task whose title says sensitive needs a person's approval" if {
	input.tool == "create_task"
	may_file_tasks
	input.arguments.priority == "high"
	contains(input.folded.title, "sensitive")
}

valid_title if {
	is_string(input.arguments.title)
	count(trim_space(input.arguments.title)) <= 500
	count(trim_space(input.folded.title)) >= 1
}

valid_priority if input.arguments.priority in {"high", "medium", "low"}

valid_description if not "description" in object.keys(input.arguments)

valid_description if {
	is_string(input.arguments.description)
	count(input.arguments.description) <= 10000
}

# Messages: sent by the executor and the job's own code.

allow if {
	input.tool == "notify"
	input.agent in {"executor", "job"}
	is_string(input.arguments.channel)
	is_string(input.arguments.message)
}

deny contains "the message says delete" if {
	input.tool == "notify"
	some text in [input.arguments.message, input.folded.message]
	regex.match(`(^|[^\pL\pN])delete($|[^\pL\pN])`, lower(text))
}

# No agent may delete tasks.

deny contains "delete_task is never allowed" if input.tool == "delete_task"

# The job's own tools, if the job lists them. The reviewer may not call them.

allow if {
	input.tool in input.job_tools
	not input.tool in built_in
	input.agent != "reviewer"
}
