.text
pushf
 orq $0x240fd5,(%rsp)
 popf
 ud2
