package main

import (
	"fmt"
	"os"
	"os/exec"
)

// parentRole makes the test's binary one that starts a process which would go on
// for long, says so, and waits for it.
const parentRole = "measure-parent"

func parent() error {
	cmd := exec.Command("sleep", "1000")
	cmd.Stdout = os.Stdout
	ownProcess(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Print("!")
	return cmd.Wait()
}
