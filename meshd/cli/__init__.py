"""The commands: `meshd` for the machine one sits at, `meshctl` for an operator of a mesh. One file a command."""
